package archive_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/pairtest"
)

func TestDumpUnderSnapshot(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	conn := pgtest.Conn(t, p.Source)
	pgtest.Exec(t, conn, `CREATE TABLE public.before ()`)
	pgtest.Exec(t, conn, `BEGIN ISOLATION LEVEL REPEATABLE READ`)
	snapshot := pgtest.Value(t, conn, `SELECT pg_export_snapshot()`)
	pgtest.Exec(t, pgtest.Conn(t, p.Source), `CREATE TABLE public.later ()`)
	data, err := archive.Dump(t.Context(), archive.DumpConfig{DSN: p.Source, Snapshot: snapshot})
	require.NoError(t, err)
	a, err := archive.Parse(data)
	require.NoError(t, err)
	require.Equal(t, p.Source.Database(), a.Database)
	var names []string
	for _, e := range a.Entries {
		names = append(names, e.Kind+" "+e.Tag)
	}
	require.Contains(t, names, "TABLE before")
	require.NotContains(t, names, "TABLE later")
}

func TestDumpTellsWhatPgDumpSaid(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	_, err := archive.Dump(t.Context(), archive.DumpConfig{DSN: p.Source, Snapshot: "00000000-00000000-1"})
	require.ErrorContains(t, err, "00000000-00000000-1")
	require.NotContains(t, err.Error(), p.Source.Password())

	_, err = archive.Dump(t.Context(), archive.DumpConfig{DSN: p.Source.WithUser(p.Source.User(), "wrong-secret")})
	require.ErrorContains(t, err, "password authentication failed")
	require.NotContains(t, err.Error(), "wrong-secret")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = archive.Dump(ctx, archive.DumpConfig{DSN: p.Source})
	require.ErrorIs(t, err, context.Canceled)
}
