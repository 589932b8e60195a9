package restore_test

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/catalog"
	"crossfade/schema/fingerprint"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// large makes every table one whose indexes are worth a step each.
func large(db *catalog.Database) *catalog.Database {
	for _, r := range db.Relations {
		r.Bytes = 100 << 20
	}
	return db
}

const indexesOf = `SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass`

func TestIndexesOfATableBeginWhenItIsCopied(t *testing.T) {
	t.Parallel()
	for name, sized := range map[string]func(*catalog.Database) *catalog.Database{
		"large tables": large, "small tables": func(db *catalog.Database) *catalog.Database { return db },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pairtest.New(t)
			p.LoadObjects(t)
			planned, db := p.Plan(t)
			p.Restore(t, planned, plan.PreData, 1)
			db = sized(db)
			customer := db.Lookup(pg.Name{Schema: "app", Name: "customer"})
			copied := make(chan uint32, len(db.Relations))
			ended := make(chan error, 1)
			cfg := restore.Config{Conns: pairtest.Conns(t, p, 3), Rewrite: plan.Rewrite{Roles: p.Roles}, Source: db, Copied: copied, Analyze: db.Relations, Log: zerolog.Nop()}
			go func() {
				_, err := restore.Restore(t.Context(), planned, plan.AfterCopy, cfg)
				ended <- err
			}()
			copied <- customer.OID
			conn := pgtest.Conn(t, p.Target)
			require.Eventually(t, func() bool {
				return pgtest.Value(t, conn, `SELECT reltuples >= 0 FROM pg_class WHERE oid = 'app.customer'::regclass`) == "true"
			}, pgtest.Timeout, 5*time.Millisecond, "the table is analysed when its indexes are there")
			require.Equal(t, "4", pgtest.Value(t, conn, indexesOf, "app.customer"))
			require.Equal(t, "0", pgtest.Value(t, conn, indexesOf, `app."Order"`), "a table that is not copied yet")
			close(copied)
			require.NoError(t, <-ended)
			require.Equal(t, "0", pgtest.Value(t, conn, `SELECT count(*) FROM pg_class c WHERE relkind IN ('r', 'p') AND reltuples < 0
				AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'crossfade'))`),
				"every table and partition root has statistics")
			noDriftBut(t, p, fingerprint.Options{Deferred: true, Checks: planned.LateChecks()}, "column app.customer / id")
		})
	}
}

// The index of a constraint is built once, though the process dies before the constraint is there.
func TestIndexOfAConstraintIsBuiltOnce(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	p.LoadObjects(t)
	planned, db := p.Plan(t)
	p.Restore(t, planned, plan.PreData, 1)
	cfg := restore.Config{Conns: pairtest.Conns(t, p, 2), Rewrite: plan.Rewrite{Roles: p.Roles}, Source: large(db), Log: zerolog.Nop()}
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(p.Target.Database()))
	pgtest.Exec(t, admin, `CREATE FUNCTION public.stop() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
		CREATE EVENT TRIGGER stop ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.stop()`)
	_, err := restore.Restore(t.Context(), planned, plan.AfterCopy, cfg)
	require.ErrorContains(t, err, "not now")
	pgtest.Exec(t, admin, `DROP EVENT TRIGGER stop; DROP FUNCTION public.stop()`)
	conn := pgtest.Conn(t, p.Target)
	const half = `SELECT count(*) FROM crossfade.item WHERE id < 0`
	require.NotEqual(t, "0", pgtest.Value(t, conn, half))
	const files = `SELECT string_agg(c.oid || ' ' || relname, ',' ORDER BY c.oid) FROM pg_class c JOIN pg_index ON indexrelid = c.oid
		WHERE relname IN (SELECT name FROM crossfade.item WHERE id < 0 UNION ALL SELECT substr(name, strpos(name, ' ') + 1) FROM crossfade.item WHERE id < 0)`
	before := pgtest.Value(t, conn, files)
	require.NotEmpty(t, before)

	_, err = restore.Restore(t.Context(), planned, plan.AfterCopy, cfg)
	require.NoError(t, err)
	require.Contains(t, pgtest.Value(t, conn, files), before, "an index was built again")
	noDriftBut(t, p, fingerprint.Options{Deferred: true, Checks: planned.LateChecks()}, "column app.customer / id")
}
