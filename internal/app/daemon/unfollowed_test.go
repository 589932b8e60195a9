package daemon

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// extrasFixture is a PortsFixture with a migration, whose extras a test copies.
type extrasFixture struct {
	*apptest.PortsFixture
	m *migration.Migration
}

func newExtrasFixture(t *testing.T) *extrasFixture {
	t.Helper()
	b := apptest.NewPortsFixture(t)
	run, err := journal.LoadTarget(t.Context(), b.Target)
	require.NoError(t, err)
	return &extrasFixture{PortsFixture: b, m: migration.New(migration.Config{Source: b.SourceDSN, Target: b.TargetDSN, Identity: runs.Identity{Target: run}, LockTimeout: apptest.LockTimeout, Log: zerolog.Nop(),
		Options: options.Copy{LargeObjects: true, Schema: options.Schema{NoOwner: true, NoACL: true}}})}
}

// ask puts one of the watchers' questions, on sessions as the watchers have them.
func (b *extrasFixture) ask(name string) []watch.Notice {
	b.T.Helper()
	d := bare(func(d *daemon) { d.watches.cover = &watch.Coverage{}; d.core.migration = b.m })
	source, err := pg.Connect(b.T.Context(), b.SourceDSN, pg.WithName("watch"), pg.WithLockTimeout(apptest.LockTimeout))
	require.NoError(b.T, err)
	defer dbconn.CloseNow(source)
	target, err := pg.Connect(b.T.Context(), b.TargetDSN, pg.WithName("watch"), pg.WithKey("k"))
	require.NoError(b.T, err)
	defer dbconn.CloseNow(target)
	for _, w := range d.watchers() {
		if w.Name == name {
			require.Equal(b.T, name != "unlogged tables", w.Fenced, "asked when the writers rest, for what may be lost by then")
			found, err := w.Ask(b.T.Context(), source, target)
			require.NoError(b.T, err)
			if w.Fenced && w.AskFenced != nil { // the last word is that under the fence
				last, err := w.AskFenced(b.T.Context(), source, target)
				require.NoError(b.T, err)
				require.Equal(b.T, found, last, "under the fence")
				armed, err := w.AskArming(b.T.Context(), source, target)
				require.NoError(b.T, err)
				require.Equal(b.T, found, armed, "while a cutover is armed")
			}
			return found
		}
	}
	b.T.Fatalf("there is no watcher %q", name)
	return nil
}

func (b *extrasFixture) readable() {
	b.T.Helper()
	pgtest.Exec(b.T, pgtest.Conn(b.T, pgtest.Shared(b.T, pgtest.Source).AdminDSN(b.SourceDSN.Database())), `GRANT SELECT ON pg_catalog.pg_largeobject TO `+b.SourceDSN.User())
}

func TestLargeObjectsOfARunThatCopiesNoneStopACutover(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	require.Empty(t, b.ask("large objects"))
	pgtest.Exec(t, b.Source, `SELECT lo_from_bytea(4711, 'written through the proxy')`)
	found := b.ask("large objects")
	require.Len(t, found, 1)
	require.False(t, found[0].Warns, "it stops a cutover")
	require.Equal(t, "large_objects_changed", found[0].Code)
	require.Contains(t, found[0].Detail, "1 large objects, the highest with number 4711")
	require.Contains(t, found[0].Remedy, "bytea")
	pgtest.Exec(t, b.Source, `SELECT lo_unlink(4711)`)
	require.Empty(t, b.ask("large objects"), "nothing would be lost")
}

// What was undone before anybody looked, and what leaves count and numbers as they were, is
// noticed.
func TestChangesOfCopiedLargeObjectsAreNoticed(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct{ sql, watcher string }{
		"made":                       {`SELECT lo_from_bytea(9000, 'x')`, "large objects"},
		"removed":                    {`SELECT lo_unlink(101)`, "large objects"},
		"removed, another made":      {`SELECT lo_unlink(101), lo_create(109)`, "large objects"},
		"removed, made again":        {`SELECT lo_unlink(101); SELECT lo_from_bytea(101, 'one')`, "large objects"},
		"privileges":                 {`GRANT SELECT ON LARGE OBJECT 101 TO PUBLIC`, "large objects"},
		"written":                    {`SELECT lo_put(101, 0, 'two')`, "bytes of large objects"},
		"written with as much":       {`SELECT lo_put(101, 1, 'x')`, "bytes of large objects"},
		"cut off between pages":      {`SELECT lo_truncate(lo_open(102, 131072), 4096)`, "bytes of large objects"},
		"written in a savepoint":     {`BEGIN; SAVEPOINT s; SELECT lo_put(101, 0, 'two'); RELEASE s; COMMIT`, "bytes of large objects"},
		"pages taken by a superuser": {`DELETE FROM pg_largeobject WHERE loid = 102 AND pageno = 2`, "bytes of large objects"}, // no row tells
		"written and rolled back":    {`BEGIN; SELECT lo_put(101, 0, 'two'); SELECT lo_create(777); ROLLBACK`, ""},
		"read":                       {`SELECT lo_get(101)`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newExtrasFixture(t)
			b.readable()
			pgtest.Exec(t, b.Source, `SELECT lo_from_bytea(101, 'one'), lo_from_bytea(102, convert_to(repeat('x', 6144), 'UTF8'))`)
			require.NoError(t, b.m.Extras.Extras(t.Context(), nil))
			require.Equal(t, "one", pgtest.Value(t, b.Target, `SELECT convert_from(lo_get(101), 'UTF8')`))
			for _, w := range []string{"large objects", "bytes of large objects"} {
				require.Empty(t, b.ask(w), w)
			}
			conn := b.Source
			if strings.HasPrefix(x.sql, "DELETE") {
				conn = pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.SourceDSN.Database()))
			}
			pgtest.Exec(t, conn, x.sql)
			seen := ""
			for _, w := range []string{"large objects", "bytes of large objects"} {
				for _, n := range b.ask(w) {
					require.False(t, n.Warns)
					require.Equal(t, "large_objects_changed", n.Code)
					if seen == "" {
						seen = w
					}
				}
			}
			require.Equal(t, x.watcher, seen)
		})
	}
}

// A snapshot names the transactions that ran, and not their subtransactions, which wrote.
func TestSubtransactionsThatRanAtTheCopyAreNoticed(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	b.readable()
	pgtest.Exec(t, b.Source, `SELECT lo_from_bytea(101, 'one'), lo_from_bytea(102, 'one')`)
	ran := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, ran, `BEGIN; SELECT txid_current(); SAVEPOINT s; SELECT lo_put(101, 0, 'two'); GRANT SELECT ON LARGE OBJECT 101 TO PUBLIC; RELEASE s`)
	pgtest.Exec(t, b.Source, `SELECT lo_put(102, 0, 'two'); GRANT SELECT ON LARGE OBJECT 102 TO PUBLIC`)
	require.NoError(t, b.m.Extras.Extras(t.Context(), nil))
	require.Equal(t, "one two", pgtest.Value(t, b.Target, `SELECT convert_from(lo_get(101), 'UTF8') || ' ' || convert_from(lo_get(102), 'UTF8')`))
	require.Empty(t, b.ask("large objects"), "what had ended was copied")
	require.Empty(t, b.ask("bytes of large objects"))
	pgtest.Exec(t, ran, `COMMIT`)
	require.Len(t, b.ask("large objects"), 1)
	require.Len(t, b.ask("bytes of large objects"), 1)
}

// Where the role may not read the bytes, the server's statistics are all there is, and that is
// said.
func TestWritesToLargeObjectsAreNamedWithoutTheRightToSeeThem(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	pgtest.Exec(t, b.Source, `SELECT lo_from_bytea(101, 'one')`)
	ends := pgtest.Conn(t, b.SourceDSN)
	require.NoError(t, ends.Close(context.Background()))
	require.NoError(t, b.Source.Close(context.Background())) // a session that ends tells its statistics
	require.NoError(t, b.m.Extras.Extras(t.Context(), nil))
	found := b.ask("bytes of large objects")
	require.Len(t, found, 1)
	require.True(t, found[0].Warns)
	require.Equal(t, "large_objects_unseen", found[0].Code)
	super := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.SourceDSN.Database()))
	apptest.Typed(t, super, found[0].Remedy, "source")
	require.Empty(t, b.ask("bytes of large objects"))
	pgtest.Exec(t, super, "REVOKE SELECT ON pg_catalog.pg_largeobject FROM "+pg.QuoteIdent(b.SourceDSN.User()))

	writer := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, writer, `SELECT lo_put(101, 0, 'two')`)
	require.NoError(t, writer.Close(context.Background()))
	require.Eventually(t, func() bool { return b.ask("bytes of large objects")[0].Code == "large_objects_written" }, pgtest.Timeout, 50*time.Millisecond)
	found = b.ask("bytes of large objects")
	require.False(t, found[0].Warns, "a cutover would lose what was written")
	apptest.Typed(t, super, apptest.Once(t, found, "large_objects_written", "told once").Remedy, "source")
	require.Contains(t, apptest.Once(t, b.ask("bytes of large objects"), "large_objects_changed", "now it is told exactly").Detail, "bytes of 1 large objects")
}

// cannotBeRead keeps a table from being read while f runs.
func (b *extrasFixture) cannotBeRead(table string, f func()) {
	b.T.Helper()
	holder := pgtest.Conn(b.T, pgtest.Shared(b.T, pgtest.Source).AdminDSN(b.SourceDSN.Database()))
	pgtest.Exec(b.T, holder, "BEGIN; LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
	f()
	pgtest.Exec(b.T, holder, "ROLLBACK")
}

// onSides puts a question with a bound, on sessions of its own.
func (b *extrasFixture) onSides(ask func(context.Context, *pgx.Conn, *pgx.Conn, watch.Scan) ([]watch.Notice, error), s watch.Scan) []watch.Notice {
	b.T.Helper()
	source, target := pgtest.Conn(b.T, b.SourceDSN), pgtest.Conn(b.T, b.TargetDSN, pg.WithKey("k"))
	found, err := ask(b.T.Context(), source, target, s)
	require.NoError(b.T, err)
	return found
}

var tenSeconds = machine.Limits{MaxPause: 10 * time.Second, DrainTimeout: 2 * time.Second}

// What cannot be looked through in time is not known, which refuses a cutover: a write between the
// arming and the fence is seen by nothing else.
func TestWhatIsNotSeenOfLargeObjectsStopsACutover(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	b.readable()
	pgtest.Exec(t, b.Source, `SELECT lo_from_bytea(101, 'one')`)
	require.NoError(t, b.Source.Close(context.Background()))
	require.NoError(t, b.m.Extras.Extras(t.Context(), nil))
	short := watch.Scan{Limit: 50 * time.Millisecond, Armed: true, Of: tenSeconds}
	b.cannotBeRead("pg_catalog.pg_largeobject", func() {
		found := b.onSides(watch.FindLargeObjectBytes, short)
		require.Len(t, found, 1)
		require.False(t, found[0].Warns, "under the fence")
		require.Equal(t, "large_objects_unseen", found[0].Code)
		require.Contains(t, found[0].Remedy, "crossfade cutover --max-pause 21s")
		status := b.onSides(watch.FindLargeObjectBytes, watch.Scan{Limit: short.Limit})
		require.Len(t, status, 1)
		require.True(t, status[0].Warns, "a cutover looks by itself")
		require.Contains(t, status[0].Detail, "while it is armed and in the pause")
	})
	require.Empty(t, b.onSides(watch.FindLargeObjectBytes, watch.Scan{Limit: watch.ScanPatience, Armed: true, Of: tenSeconds}))

	writer := pgtest.Conn(t, b.SourceDSN)
	pgtest.Exec(t, writer, `SELECT lo_put(101, 0, 'two')`)
	require.NoError(t, writer.Close(context.Background())) // tells its statistics
	b.cannotBeRead("pg_catalog.pg_largeobject", func() {
		require.Eventually(t, func() bool {
			return b.onSides(watch.FindLargeObjectBytes, watch.Scan{Limit: short.Limit})[0].Code == "large_objects_written"
		}, pgtest.Timeout, 50*time.Millisecond)
		require.False(t, b.onSides(watch.FindLargeObjectBytes, watch.Scan{Limit: short.Limit})[0].Warns, "the statistics tell of a write")
		require.False(t, b.onSides(watch.FindLargeObjectBytes, short)[0].Warns)
	})
}

// A scan that takes longer than the pause allows is refused before there is a pause, and accepted
// with one that allows it.
func TestAScanThatIsTooLongForThePauseIsRefusedWhileArming(t *testing.T) {
	t.Parallel()
	s := watch.Scan{Limit: watch.ArmingScanPatience, Armed: true, PauseBudget: 4 * time.Second, Of: tenSeconds}
	require.Empty(t, s.Fits("code", "pg_largeobject", 4*time.Second))
	found := s.Fits("code", "pg_largeobject", 5*time.Second)
	require.Len(t, found, 1)
	require.False(t, found[0].Warns)
	require.Contains(t, found[0].Detail, "took 5s")
	require.Equal(t, "give the pause more time: crossfade cutover --max-pause 18s", found[0].Remedy)
	s.PauseBudget = (18*time.Second - tenSeconds.DrainTimeout) / 2
	require.Empty(t, s.Fits("code", "pg_largeobject", 5*time.Second), "as the remedy says")
	d := bare(func(d *daemon) {})
	require.Equal(t, 4*time.Second, d.scanArming().PauseBudget)
	before := d.scanFenced().Limit
	closed := time.Now().Add(-3 * time.Second)
	d.core.gateClosed.Store(&closed)
	require.Equal(t, 9*time.Second, before)
	require.InDelta(t, 6, d.scanFenced().Limit.Seconds(), 1, "what is left of the pause")
}

// The rows of extensions are read for as long as is bounded, too.
func TestAScanOfRowsOfExtensionsIsBounded(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	const made = `CREATE EXTENSION hstore; CREATE TABLE public.conf (id int PRIMARY KEY, v text);
		ALTER EXTENSION hstore ADD TABLE public.conf; GRANT ALL ON public.conf TO PUBLIC;
		UPDATE pg_extension SET extconfig = ARRAY['public.conf'::regclass]::oid[], extcondition = ARRAY[''] WHERE extname = 'hstore'`
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.SourceDSN.Database())), made)
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(b.TargetDSN.Database())), made)
	pgtest.Exec(t, b.Source, `INSERT INTO public.conf VALUES (101, 'a')`)
	require.NoError(t, b.m.Extras.Extras(t.Context(), nil))
	b.cannotBeRead("public.conf", func() {
		status := b.onSides(b.m.Extras.FindExtensionRows, watch.Scan{Limit: 50 * time.Millisecond})
		require.Len(t, status, 1)
		require.True(t, status[0].Warns)
		found := b.onSides(b.m.Extras.FindExtensionRows, watch.Scan{Limit: 50 * time.Millisecond, Armed: true, Of: tenSeconds})
		require.Len(t, found, 1)
		require.False(t, found[0].Warns)
		require.Equal(t, "extension_rows_unseen", found[0].Code)
		require.Contains(t, found[0].Remedy, "crossfade cutover --max-pause 21s")
		require.NotContains(t, found[0].Remedy, "…")
	})
	require.Empty(t, b.onSides(b.m.Extras.FindExtensionRows, watch.Scan{Limit: watch.ScanPatience, Armed: true, Of: tenSeconds}))

	// Rows that are slow to read: what a cutover says is typed, and what the status says is done.
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.SourceDSN.Database())),
		`UPDATE pg_extension SET extcondition = ARRAY['WHERE pg_sleep(0.02) IS NOT NULL'] WHERE extname = 'hstore'`)
	pgtest.Exec(t, b.Source, `INSERT INTO public.conf SELECT n, 'unused' FROM generate_series(1000, 1020) n`)
	short := machine.Limits{MaxPause: time.Second + 50*time.Millisecond, DrainTimeout: 10 * time.Millisecond}
	d := bare(func(d *daemon) {})
	fenced := func(of machine.Limits) watch.Scan {
		return watch.Scan{Limit: of.MaxPause - watch.PauseRest, Armed: true, Of: of}
	}
	require.Equal(t, d.scanFenced().Limit, fenced(d.limits()).Limit, "as under the fence")
	said := apptest.Once(t, b.onSides(b.m.Extras.FindExtensionRows, fenced(short)), "extension_rows_unseen", "under the fence")
	for range 4 { // each time it takes longer, on a machine that is busy
		_, pause, _ := strings.Cut(said.Remedy, "crossfade cutover --max-pause ")
		longer, err := time.ParseDuration(pause)
		require.NoError(t, err, said.Remedy)
		require.Greater(t, longer, short.MaxPause)
		short.MaxPause = longer
		found := b.onSides(b.m.Extras.FindExtensionRows, fenced(short))
		if len(found) == 0 {
			break
		}
		said = apptest.Once(t, found, "extension_rows_unseen", "with what it said to do")
	}
	require.Empty(t, b.onSides(b.m.Extras.FindExtensionRows, fenced(short)), "as the remedy says")
	slow := watch.Scan{Limit: 200 * time.Millisecond}
	require.Equal(t, "remove those that nothing uses", apptest.Once(t, b.onSides(b.m.Extras.FindExtensionRows, slow), "extension_rows_unseen", "for the status").Remedy)
	pgtest.Exec(t, b.Source, `DELETE FROM public.conf WHERE v = 'unused'`)
	require.Empty(t, b.onSides(b.m.Extras.FindExtensionRows, watch.Scan{Limit: watch.ScanPatience}), "the rows that are left are copied")
	require.Empty(t, b.onSides(b.m.Extras.FindExtensionRows, slow))
}

// Rows of the users' in tables of extensions are copied again, as often as they change.
func TestRowsOfExtensionsAreFollowed(t *testing.T) {
	t.Parallel()
	b := newExtrasFixture(t)
	const made = `CREATE EXTENSION hstore; CREATE TABLE public.conf (id int PRIMARY KEY, v text); INSERT INTO public.conf VALUES (1, 'built in');
		ALTER EXTENSION hstore ADD TABLE public.conf; GRANT ALL ON public.conf TO PUBLIC;
		UPDATE pg_extension SET extconfig = ARRAY['public.conf'::regclass]::oid[], extcondition = ARRAY['WHERE id > 100'] WHERE extname = 'hstore'`
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(b.SourceDSN.Database())), made)
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(b.TargetDSN.Database())), made)
	rows := func() string {
		return pgtest.Value(t, b.Target, `SELECT coalesce(string_agg(id || ' ' || v, ',' ORDER BY id), '') FROM public.conf WHERE id > 1`)
	}
	pgtest.Exec(t, b.Source, `INSERT INTO public.conf VALUES (101, 'a')`)
	require.NoError(t, b.m.Extras.Extras(t.Context(), nil))
	require.Equal(t, "101 a", rows())
	for _, x := range []struct{ sql, want string }{
		{`INSERT INTO public.conf VALUES (102, 'b')`, "101 a,102 b"},
		{`UPDATE public.conf SET v = CASE id WHEN 101 THEN 'b' ELSE 'a' END WHERE id > 100`, "101 b,102 a"},
		{`DELETE FROM public.conf WHERE id = 101`, "102 a"},
		{`UPDATE public.conf SET v = 'the extension''s own' WHERE id = 1`, "102 a"},
		{`TRUNCATE public.conf`, ""},
	} {
		pgtest.Exec(t, b.Source, x.sql)
		require.Empty(t, b.ask("rows of extensions"), x.sql)
		require.Equal(t, x.want, rows(), x.sql)
	}
	// What cannot be copied again stops a cutover, and is tried again.
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(b.TargetDSN.Database()))
	pgtest.Exec(t, admin, `REVOKE ALL ON public.conf FROM PUBLIC`)
	pgtest.Exec(t, b.Source, `INSERT INTO public.conf VALUES (103, 'c')`)
	for range 2 {
		found := b.ask("rows of extensions")
		require.Len(t, found, 1)
		require.False(t, found[0].Warns)
		require.Equal(t, "extension_rows_changed", found[0].Code)
		require.Contains(t, found[0].Detail, "public.conf")
	}
	pgtest.Exec(t, admin, `GRANT ALL ON public.conf TO PUBLIC`)
	require.Empty(t, b.ask("rows of extensions"))
	require.Equal(t, "103 c", rows())
}
