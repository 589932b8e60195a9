package copy

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/stream"
)

const publication = "crossfade_test"

// followed publishes the fixture's tables, makes a slot, and returns a config for a copy that
// belongs to it, under the slot's own snapshot. keys are the columns of each table's key.
func (f *fixture) followed(keys map[string][]string) Config {
	f.t.Helper()
	pgtest.Exec(f.t, f.target, `DO $$ DECLARE c record; BEGIN -- as in a migration, indexes come after the rows
		FOR c IN SELECT conrelid::regclass::text AS rel, conname FROM pg_constraint WHERE contype IN ('p', 'u') AND conparentid = 0
			AND connamespace = 'public'::regnamespace LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.rel, c.conname); END LOOP; END $$`)
	cfg := f.config(false)
	var names []pg.Name
	for i, t := range cfg.Tables {
		names = append(names, t.Name)
		cfg.Tables[i].Key = keys[t.Name.Name]
	}
	ctx := f.context()
	require.NoError(f.t, slot.EnsurePublication(ctx, f.source, slot.PublicationConfig{Name: publication, Tables: names}))
	s, err := slot.Create(ctx, slot.Config{
		Name: "crossfade_" + strings.ToLower(rand.Text()[:10]), Connect: cfg.Source,
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, f.sourceDSN) },
	})
	require.NoError(f.t, err)
	defer s.Release()
	cfg.Snapshot, err = snapshot.Import(ctx, connector(f.sourceDSN, pg.WithName("test holder")), s.Snapshot)
	require.NoError(f.t, err)
	f.t.Cleanup(cfg.Snapshot.Close)
	cfg.Stream = &Stream{Config: stream.Config{DSN: f.sourceDSN, Slot: s.Name, Publication: publication, Start: s.ConsistentPoint}, Snapshot: cfg.Snapshot.Text()}
	return cfg
}

// interrupted runs a copy, ends it when n chunks have landed, and returns these. The
// snapshot is gone then.
func (f *fixture) interrupted(cfg Config, n int) map[string]string {
	f.t.Helper()
	cfg.Jobs = 1
	gate := f.gateAfter(n)
	ctx, cancel := context.WithCancel(f.context())
	stop := watch(func(context.Context) {
		f.awaitGate()
		cancel()
	})
	err := f.copier(cfg).Run(ctx)
	stop()
	require.ErrorIs(f.t, err, context.Canceled)
	cfg.Snapshot.Close()
	pgtest.Exec(f.t, gate, "SELECT pg_advisory_unlock(42)")
	pgtest.Exec(f.t, f.target, "DROP TRIGGER gate ON crossfade.chunk; DROP FUNCTION crossfade.gate()")
	landed := f.landed()
	require.Len(f.t, landed, n)
	return landed
}

// landed returns the records of chunks with the transactions that wrote them.
func (f *fixture) landed() map[string]string {
	f.t.Helper()
	rows, err := f.target.Query(f.t.Context(), `SELECT relid::text || ' ' || lo || ' ' || hi, xmin::text || ' ' || ctid::text FROM crossfade.chunk`)
	require.NoError(f.t, err)
	landed := map[string]string{}
	var chunk, by string
	_, err = pgx.ForEachRow(rows, []any{&chunk, &by}, func() error { landed[chunk] = by; return nil })
	require.NoError(f.t, err)
	return landed
}

// requireKept fails unless every chunk that had landed is still recorded by the
// transaction that recorded it first.
func (f *fixture) requireKept(before map[string]string) {
	f.t.Helper()
	now := f.landed()
	for chunk, by := range before {
		require.Equal(f.t, by, now[chunk], "chunk %s was copied twice", chunk)
	}
}

// another returns a config for the next Copier, under a fresh snapshot that the test can read too.
func (f *fixture) another(cfg Config) Config {
	f.t.Helper()
	h, err := snapshot.Export(f.context(), connector(f.sourceDSN, pg.WithName("test holder")))
	require.NoError(f.t, err)
	f.t.Cleanup(h.Close)
	cfg.Snapshot, cfg.Jobs = h, 2
	return cfg
}

// requireEqualUnder compares a table's content on the target with what a snapshot
// sees of the source.
func (f *fixture) requireEqualUnder(h *snapshot.Holder, table string) {
	f.t.Helper()
	conn := pgtest.Conn(f.t, f.sourceDSN)
	require.NoError(f.t, snapshot.Begin(f.context(), conn, h.ID(), 0))
	const missing = `SELECT coalesce(string_agg(left(t::text, 60), E'\n' ORDER BY t::text COLLATE "C"), '') FROM ONLY `
	want, got := pgtest.Value(f.t, conn, missing+table+" t"), pgtest.Value(f.t, f.target, missing+table+" t")
	if want != got { // the whole would fill the screen
		require.Equal(f.t, pgtest.Value(f.t, conn, "SELECT count(*) FROM ONLY "+table), pgtest.Value(f.t, f.target, "SELECT count(*) FROM ONLY "+table), "rows of %s", table)
		lines := strings.Split(got, "\n")
		for i, l := range strings.Split(want, "\n") {
			require.Equal(f.t, l, lines[i], "row %d of %s", i, table)
		}
	}
	sum := `SELECT coalesce(md5(string_agg(t::text, E'\n' ORDER BY t::text COLLATE "C")), '') FROM ONLY ` + table + " t"
	require.Equal(f.t, pgtest.Value(f.t, conn, sum), pgtest.Value(f.t, f.target, sum), "content of %s", table)
}
