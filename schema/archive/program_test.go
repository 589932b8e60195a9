package archive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
)

func TestDumpKeepsThePasswordOffTheCommandLine(t *testing.T) {
	t.Parallel()
	dsn, err := pg.ParseDSN("postgresql://app:wrong-secret@127.0.0.1/app")
	require.NoError(t, err)
	conninfo, _ := dsn.LibpqEnv()
	args := strings.Join(dumpArguments(DumpConfig{DSN: dsn, Snapshot: "s"}, conninfo), " ")
	require.NotContains(t, args, "wrong-secret")
	require.Contains(t, args, "--snapshot=s")
}

func TestFindDumpRefusesAnOlderOne(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg_dump"), []byte(script), 0o700))
	t.Setenv(BinDirVariable, dir)
	d, err := FindProgram(t.Context(), 13)
	require.NoError(t, err)
	require.Equal(t, 13, d.Major)
	_, err = FindProgram(t.Context(), 14)
	require.ErrorIs(t, err, ErrNoDump)
	require.ErrorContains(t, err, "postgresql-client-14")

	t.Setenv(BinDirVariable, filepath.Join(dir, "missing"))
	_, err = FindProgram(t.Context(), 14)
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
