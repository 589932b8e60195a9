package copy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
)

// fixture is a source and a target database with the same tables.
type fixture struct {
	t              *testing.T
	sourceDSN      pg.DSN
	targetDSN      pg.DSN
	source, target *pgx.Conn
}

// newFixture runs ddl on both sides.
func newFixture(t *testing.T, ddl string) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.sourceDSN = pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	f.targetDSN = pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	f.source, f.target = pgtest.Conn(t, f.sourceDSN), pgtest.Conn(t, f.targetDSN)
	pgtest.Exec(t, f.target, journal.TargetDDL)
	for _, c := range []*pgx.Conn{f.source, f.target} {
		pgtest.Exec(t, c, "SET search_path = public; "+ddl)
	}
	return f
}

func connector(dsn pg.DSN, opts ...pg.Option) snapshot.Connect {
	return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn, opts...) }
}

// tables lists the user tables of the source with their columns.
func (f *fixture) tables(binary bool) []Table {
	rows, err := f.source.Query(f.t.Context(), `SELECT c.oid, n.nspname::text, c.relname::text,
			coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
				WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''), '{}')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crossfade') AND n.nspname NOT LIKE 'pg_toast%'
		ORDER BY 1`)
	require.NoError(f.t, err)
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Table, error) {
		t := Table{Binary: binary}
		err := row.Scan(&t.OID, &t.Name.Schema, &t.Name.Name, &t.Columns)
		return t, err
	})
	require.NoError(f.t, err)
	return tables
}

// config has chunks of a few blocks, so that small tables have many.
func (f *fixture) config(binary bool) Config {
	return Config{
		Source:     connector(f.sourceDSN, pg.WithName("test reader")),
		Target:     connector(f.targetDSN, pg.WithName("test writer")),
		Tables:     f.tables(binary),
		Jobs:       2,
		ChunkBytes: 64 << 10,
		Patience:   time.Minute,
		Log:        zerolog.New(zerolog.NewTestWriter(f.t)),
	}
}

func (f *fixture) copier(cfg Config) *Copier {
	c, err := New(cfg)
	require.NoError(f.t, err)
	return c
}

func (f *fixture) context() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), pgtest.Timeout)
	f.t.Cleanup(cancel)
	return ctx
}

// requireEqual compares a table's content, as text and in order.
func (f *fixture) requireEqual(table string) {
	f.t.Helper()
	sum := fmt.Sprintf(`SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\n' ORDER BY t::text COLLATE "C")), '') FROM ONLY %s t`, table)
	require.Equal(f.t, pgtest.Value(f.t, f.source, sum), pgtest.Value(f.t, f.target, sum), "content of %s", table)
}

func (f *fixture) requireState(table Table, state string) {
	f.t.Helper()
	require.Equal(f.t, state, pgtest.Value(f.t, f.target, "SELECT state FROM crossfade.relation WHERE relid = $1", table.OID))
}

// terminate ends one backend of the copier that waits in, or runs, a COPY, and
// reports whether there was one.
func (f *fixture) terminate(conn *pgx.Conn, name string) bool {
	var n int
	err := conn.QueryRow(f.t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = $1 AND state = 'active' AND query LIKE 'COPY %' LIMIT 1) a`, name).Scan(&n)
	require.NoError(f.t, err)
	return n > 0
}

// eventually polls until ok, for things that PostgreSQL tells nobody, on the calling goroutine.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(pgtest.Timeout); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Error("did not come about in time")
			return
		}
	}
}
