package schema

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/pgcluster/pgtest"
)

func TestDumpUnderSnapshot(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	conn := pgtest.Conn(t, p.source)
	pgtest.Exec(t, conn, `CREATE TABLE public.before ()`)
	pgtest.Exec(t, conn, `BEGIN ISOLATION LEVEL REPEATABLE READ`)
	snapshot := pgtest.Value(t, conn, `SELECT pg_export_snapshot()`)
	pgtest.Exec(t, pgtest.Conn(t, p.source), `CREATE TABLE public.later ()`)
	data, err := Dump(t.Context(), DumpConfig{DSN: p.source, Snapshot: snapshot})
	require.NoError(t, err)
	a, err := ParseArchive(data)
	require.NoError(t, err)
	require.Equal(t, p.source.Database(), a.Database)
	names := strings.Join(tags(NewPlan(a).PreData), " ")
	require.Contains(t, names, "TABLE before")
	require.NotContains(t, names, "TABLE later")
}

func TestDumpTellsWhatPgDumpSaid(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	_, err := Dump(t.Context(), DumpConfig{DSN: p.source, Snapshot: "00000000-00000000-1"})
	require.ErrorContains(t, err, "00000000-00000000-1")
	require.NotContains(t, err.Error(), p.source.Password())

	_, err = Dump(t.Context(), DumpConfig{DSN: p.source.WithUser(p.source.User(), "wrong-secret"), Server: 120000})
	require.ErrorContains(t, err, "password authentication failed")
	require.NotContains(t, err.Error(), "wrong-secret")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Dump(ctx, DumpConfig{DSN: p.source, Server: 120000})
	require.ErrorIs(t, err, context.Canceled)
}

func TestDumpKeepsThePasswordOffTheCommandLine(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	conninfo, _ := p.source.LibpqEnv()
	args := strings.Join(dumpArguments(DumpConfig{DSN: p.source, Snapshot: "s"}, conninfo), " ")
	require.NotContains(t, args, p.source.Password())
	require.Contains(t, args, "--snapshot=s")
}

func TestFindDumpRefusesAnOlderOne(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(script), 0o700))
	t.Setenv(BinDirVariable, dir)
	d, err := findDump(t.Context(), 13)
	require.NoError(t, err)
	require.Equal(t, 13, d.major)
	_, err = findDump(t.Context(), 14)
	require.ErrorIs(t, err, ErrNoDump)
	require.ErrorContains(t, err, "postgresql-client-14")

	t.Setenv(BinDirVariable, filepath.Join(dir, "missing"))
	_, err = findDump(t.Context(), 14)
	require.ErrorIs(t, err, ErrNoDump)
}

func TestLimitedBuffer(t *testing.T) {
	t.Parallel()
	b := &limitedBuffer{limit: 3}
	_, err := b.Write([]byte("abc"))
	require.NoError(t, err)
	_, err = b.Write([]byte("d"))
	require.Error(t, err)
	require.True(t, b.full)
	b = &limitedBuffer{limit: 3, truncate: true}
	n, err := b.Write([]byte("abcd"))
	require.NoError(t, err)
	require.Equal(t, 4, n)
	require.Equal(t, "abc", b.bytes.String())
}
