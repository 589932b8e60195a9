package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// tablesOf makes a table of two columns for each name, with a row.
func tablesOf(t *testing.T, s *sides, names ...string) *pgx.Conn {
	t.Helper()
	c := pgtest.Conn(t, s.source)
	for _, name := range names {
		pgtest.Exec(t, c, fmt.Sprintf("CREATE TABLE public.%s (id int CONSTRAINT %[1]s_pk PRIMARY KEY, v text NOT NULL)", name))
		pgtest.Exec(t, c, fmt.Sprintf("INSERT INTO public.%s VALUES (1, 'old')", name))
	}
	return c
}

// awaitBlockers waits until the status' blockers say all words.
func (p *process) awaitBlockers(words ...string) {
	p.t.Helper()
	p.await("the status says "+strings.Join(words, ", "), func(s control.Status) bool {
		said := fmt.Sprint(s.Blockers)
		for _, w := range words {
			if !strings.Contains(said, w) {
				return false
			}
		}
		return !s.Ready
	})
}

// refuses asks for a cutover, which must be refused or aborted with the source active,
// for a reason that has the words.
func (p *process) refuses(words ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := p.request(ctx, control.CutoverOptions{Attempts: 1})
	said := r.Reason
	if err != nil {
		said = err.Error()
	} else {
		require.Equal(p.t, control.OutcomeAborted, r.Outcome)
	}
	for _, w := range words {
		require.Contains(p.t, said, w)
	}
	s, err := p.client.Status(ctx)
	require.NoError(p.t, err)
	require.Equal(p.t, "source", s.Active)
}

func TestATableThatLeftThePublicationForAMomentIsNotSwitched(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	c := tablesOf(t, s, "kept", "readded", "within", "reset", "unlogged", "filtered")
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	const out, in = "ALTER PUBLICATION crossfade DROP TABLE public.%s;", "ALTER PUBLICATION crossfade ADD TABLE ONLY public.%s;"
	for _, x := range []struct{ table, sql string }{
		{"readded", out + "INSERT INTO public.%s VALUES (2, 'lost');" + in},
		{"within", "BEGIN;" + out + "UPDATE public.%s SET v = 'lost';" + in + "COMMIT;"},
		{"unlogged", out + "ALTER TABLE public.%[1]s SET UNLOGGED; INSERT INTO public.%[1]s VALUES (2, 'lost'); ALTER TABLE public.%[1]s SET LOGGED;" + in},
		{"filtered", out + "ALTER PUBLICATION crossfade ADD TABLE public.%[1]s WHERE (id < 0); DELETE FROM public.%[1]s;" + out + in},
	} {
		for sql := range strings.SplitSeq(strings.ReplaceAll(x.sql, "%[1]s", x.table), ";") {
			pgtest.Exec(t, c, strings.ReplaceAll(sql, "%s", x.table))
		}
	}
	pgtest.Exec(t, c, "ALTER PUBLICATION crossfade SET TABLE ONLY public.kept, crossfade.marker, public.readded, public.within, public.unlogged, public.filtered")
	pgtest.Exec(t, c, "INSERT INTO public.reset VALUES (2, 'lost')")
	pgtest.Exec(t, c, "ALTER PUBLICATION crossfade ADD TABLE ONLY public.reset")
	all := []string{"public.filtered", "public.readded", "public.reset", "public.unlogged", "public.within"}
	p.awaitBlockers(append(all, "for a while", "crossfade clean")...)
	st := p.await("it tells", func(control.Status) bool { return true })
	require.NotContains(t, fmt.Sprint(st.Blockers), "public.kept")
	require.NotContains(t, fmt.Sprint(st.Blockers), "not_ready", "what has a remedy is told once, not also as something to wait for")
	p.refuses("public.readded")

	// What was recorded counts, not what a later start finds.
	require.Equal(t, 0, p.stop())
	p.start()
	p.awaitBlockers(all...)
	p.refuses("public.readded")
	require.Equal(t, 0, p.stop())
}

func TestAPublicationThatWasAlteredForAMomentIsNotSwitched(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string][]string{
		"kinds of changes": {"ALTER PUBLICATION crossfade SET (publish = 'insert')", "DELETE FROM public.t", "ALTER PUBLICATION crossfade SET (publish = 'insert, update, delete, truncate')"},
		"while stopped":    {"DROP PUBLICATION crossfade", "CREATE PUBLICATION crossfade FOR TABLE ONLY public.t, crossfade.marker"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSides(t)
			c := tablesOf(t, s, "t")
			p := newProcess(t, s)
			p.start()
			p.awaitFollowing()
			if name == "while stopped" {
				require.Equal(t, 0, p.stop())
			}
			for _, x := range sql {
				pgtest.Exec(t, c, x)
			}
			if name == "while stopped" {
				p.start()
			}
			p.awaitBlockers("publication crossfade was", "crossfade clean")
			p.refuses("publication crossfade was")
		})
	}
}

func TestASlotThatSomebodyMovedIsNotSwitched(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]string{
		"advanced":   "SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())",
		"read":       "SELECT count(*) FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'crossfade')",
		"made again": "SELECT pg_drop_replication_slot($1), pg_create_logical_replication_slot($1, 'pgoutput')",
		"dropped":    "SELECT pg_drop_replication_slot($1)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSides(t)
			c := tablesOf(t, s, "t")
			p := newProcess(t, s)
			p.start()
			p.awaitFollowing()
			slot := pgtest.Value(t, c, "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
			require.Equal(t, 0, p.stop())
			pgtest.Exec(t, c, "INSERT INTO public.t VALUES (2, 'lost')")
			admin := adminOf(t, s.sourceCluster, s.source.Database())
			eventually(t, "the walsender has gone", func() bool {
				return pgtest.Value(t, admin, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", slot) == "false"
			})
			pgtest.Exec(t, admin, move, slot)
			p.start()
			eventually(t, "the status names the slot and what to do", func() bool {
				st, err := p.client.Status(context.Background())
				said := fmt.Sprint(st.Blockers)
				return err == nil && strings.Contains(said, "slot") && strings.Contains(said, "crossfade clean")
			})
			p.refuses("slot")
		})
	}
}

func TestATableThatCannotBeUpdatedBecauseItIsPublishedIsTakenOutAndNamed(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	c := tablesOf(t, s, "kept", "nothing", "keyless", "unindexed")
	pgtest.Exec(t, c, "CREATE UNIQUE INDEX by_v ON public.unindexed (v); ALTER TABLE public.unindexed REPLICA IDENTITY USING INDEX by_v")
	p := newProcess(t, s)
	// The copy stands still: it may take hours, and the application works on meanwhile.
	p.start("phase.prepared=kill")
	require.Equal(t, -1, p.wait(), "the program is killed")
	chunk := s.holdWhere(t, "target", "crossfade.relation", "NEW.state = 'copied'")
	p.start()
	p.awaitServing()
	chunk.met()
	app := application(t, p, "0")
	pgtest.Exec(t, c, "ALTER TABLE public.nothing REPLICA IDENTITY NOTHING")
	works := func(table string) {
		begun := time.Now()
		eventually(t, "the application's UPDATE of "+table+" works again", func() bool {
			_, err := app.Exec(context.Background(), "UPDATE public."+table+" SET v = v || '!'")
			if err != nil {
				require.Equal(t, pg.CodeObjectNotInState, pg.Code(err), err)
			}
			return err == nil
		})
		require.Less(t, time.Since(begun), 20*time.Second)
		pgtest.Exec(t, app, "DELETE FROM public."+table)
	}
	works("nothing")
	p.awaitBlockers("no_replica_identity", "public.nothing", "REPLICA IDENTITY NOTHING", `ALTER TABLE "public"."nothing" REPLICA IDENTITY FULL`, "crossfade clean")
	chunk.release()
	p.await("it follows", func(s control.Status) bool { return s.Phase == "following" })

	pgtest.Exec(t, c, "ALTER TABLE public.keyless DROP CONSTRAINT keyless_pk; DROP INDEX public.by_v")
	works("keyless")
	works("unindexed")
	all := []string{"public.nothing was taken out", "public.keyless was taken out", "public.unindexed was taken out"}
	p.awaitBlockers(append(all, "primary key", "lost the index")...)
	p.refuses("was taken out")

	// That it could be followed again does not bring back what was missed.
	pgtest.Exec(t, c, "ALTER TABLE public.nothing REPLICA IDENTITY FULL")
	pgtest.Exec(t, c, "ALTER PUBLICATION crossfade ADD TABLE ONLY public.nothing")
	require.Equal(t, 0, p.stop())
	p.start()
	p.awaitBlockers(all...)
	p.refuses("was taken out")
	require.Equal(t, 0, p.stop())
}

// What is changed for a moment and is followed as it was: the cutover loses none of it.
func TestWhatIsChangedForAMomentAndFollowedIsNotLost(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	c := tablesOf(t, s, "identity", "renamed", "other", "triggers", "replica", "fed")
	pgtest.Exec(t, c, `CREATE UNIQUE INDEX by_v ON public.identity (v); ALTER TABLE public.identity ADD f float8 NOT NULL DEFAULT 0; CREATE UNIQUE INDEX by_f ON public.identity (f);
		CREATE FUNCTION public.upper() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := pg_catalog.upper(NEW.v); RETURN NEW; END $$;
		CREATE TRIGGER up BEFORE INSERT ON public.triggers FOR EACH ROW EXECUTE FUNCTION public.upper()`)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	const write = "INSERT INTO public.%[1]s (id, v) VALUES (2, 'new'); UPDATE public.%[1]s SET v = v || '!' WHERE id = 1;"
	for _, x := range []struct {
		conn *pgx.Conn
		sql  string
	}{
		{c, `BEGIN; UPDATE public.identity SET v = 'first', f = 1; ALTER TABLE public.identity REPLICA IDENTITY USING INDEX by_f; UPDATE public.identity SET v = 'second';
			ALTER TABLE public.identity REPLICA IDENTITY FULL; UPDATE public.identity SET v = 'third', id = 7; ALTER TABLE public.identity REPLICA IDENTITY USING INDEX by_v;
			UPDATE public.identity SET f = 4; ALTER TABLE public.identity REPLICA IDENTITY DEFAULT; UPDATE public.identity SET id = 8; COMMIT`},
		{c, `BEGIN; ALTER TABLE public.renamed RENAME TO swap; ALTER TABLE public.other RENAME TO renamed; ALTER TABLE public.swap RENAME TO other;
			` + fmt.Sprintf(write, "renamed") + `DELETE FROM public.other;
			ALTER TABLE public.renamed RENAME TO swap; ALTER TABLE public.other RENAME TO renamed; ALTER TABLE public.swap RENAME TO other; COMMIT`},
		{c, `ALTER TABLE public.triggers DISABLE TRIGGER USER; ` + fmt.Sprintf(write, "triggers") + `ALTER TABLE public.triggers ENABLE TRIGGER USER`},
		{admin, `SET session_replication_role = replica; ` + fmt.Sprintf(write, "replica") + `RESET session_replication_role`},
	} {
		_, err := x.conn.PgConn().Exec(context.Background(), x.sql).ReadAll()
		require.NoError(t, err, x.sql)
	}
	// A subscription that brings rows to the source for a moment.
	pub := pgtest.Database(t, s.sourceCluster)
	pc := pgtest.Conn(t, pub)
	pgtest.Exec(t, pc, "CREATE TABLE public.fed (id int PRIMARY KEY, v text NOT NULL)")
	pgtest.Exec(t, adminOf(t, s.sourceCluster, pub.Database()), "CREATE PUBLICATION feed FOR TABLE public.fed")
	name := "feed_" + s.source.Database()
	pgtest.Exec(t, adminOf(t, s.sourceCluster, pub.Database()), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name)
	feed := s.sourceCluster.AdminDSN(pub.Database())
	info, _ := feed.LibpqEnv()
	info += " password='" + feed.Password() + "'"
	pgtest.Exec(t, admin, fmt.Sprintf("CREATE SUBSCRIPTION %s CONNECTION %s PUBLICATION feed WITH (create_slot = false, copy_data = false, enabled = false, slot_name = '%[1]s')", name, pg.QuoteLiteral(info)))
	off := func() {
		pgtest.Exec(t, admin, "ALTER SUBSCRIPTION "+name+" DISABLE")
		eventually(t, "its worker has ended", func() bool {
			return pgtest.Value(t, admin, "SELECT count(*) FROM pg_stat_subscription WHERE subname = $1 AND pid IS NOT NULL", name) == "0"
		})
	}
	t.Cleanup(func() {
		pgtest.Exec(t, admin, "ALTER SUBSCRIPTION "+name+" DISABLE; ALTER SUBSCRIPTION "+name+" SET (slot_name = NONE); DROP SUBSCRIPTION "+name)
		last := adminOf(t, s.sourceCluster, pub.Database())
		eventually(t, "the slot is let go", func() bool {
			return pgtest.Value(t, last, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", name) == "false"
		})
		pgtest.Exec(t, last, "SELECT pg_drop_replication_slot($1)", name)
	})
	pgtest.Exec(t, pc, "INSERT INTO public.fed VALUES (5, 'fed')")
	pgtest.Exec(t, admin, "ALTER SUBSCRIPTION "+name+" ENABLE")
	eventually(t, "the row is fed", func() bool { return pgtest.Value(t, c, "SELECT count(*) FROM public.fed") == "2" })
	off()

	p.awaitFollowing()
	p.cutover()
	requireSameRows(t, s)
	p.awaitWhole()
	require.Equal(t, "equal", p.await("it tells", func(control.Status) bool { return true }).Verify.State)
	require.Equal(t, 0, p.stop())
}
