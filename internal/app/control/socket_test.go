package control_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

func listen(path string) (*control.Server, error) {
	return control.Listen(control.Config{Socket: path, Daemon: &daemon{}})
}

func TestSocketIsPrivateAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := listen(filepath.Join(dir, "control"))
	require.NoError(t, err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	st, err := entries[0].Info()
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o600, st.Mode())
	require.NoError(t, s.Close())
	entries, err = os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestSocketInUse(t *testing.T) {
	t.Parallel()
	d := &daemon{status: control.Status{Phase: "following"}}
	path := filepath.Join(t.TempDir(), "control")
	_, c, _ := serve(t, d, func(c *control.Config) { c.Socket = path })
	_, err := listen(path)
	require.ErrorContains(t, err, "another daemon answers there")
	_, err = c.Status(bounded(t))
	require.NoError(t, err, "the first daemon lost its socket")
}

func TestStaleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	ln.SetUnlinkOnClose(false)
	require.NoError(t, ln.Close())
	_, c, _ := serve(t, &daemon{}, func(c *control.Config) { c.Socket = path })
	_, err = c.Status(bounded(t))
	require.NoError(t, err)
}

func TestNoSocketIsNotRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(path, []byte("data"), 0o600))
	_, err := listen(path)
	require.ErrorContains(t, err, "no socket")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "data", string(b))

	link := path + "-link"
	require.NoError(t, os.Symlink(path, link))
	_, err = listen(link)
	require.ErrorContains(t, err, "no socket")
}

func TestSocketPathThatCannotBe(t *testing.T) {
	t.Parallel()
	_, err := listen(filepath.Join(t.TempDir(), "missing", "control"))
	require.ErrorContains(t, err, "--control")
	_, err = listen(filepath.Join(t.TempDir(), strings.Repeat("x", 120)))
	require.ErrorContains(t, err, "too long")
	_, err = listen("")
	require.Error(t, err)
}

// A server that ends leaves the socket of one that has taken its place.
func TestCloseLeavesAnothersSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "control")
	first, err := listen(path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	second, err := listen(path)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	_, err = os.Lstat(path)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}
