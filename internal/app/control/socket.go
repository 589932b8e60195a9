package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// maxSocketPath is the longest path that fits sockaddr_un on Linux (108
	// bytes with the final zero) and on the BSDs (104).
	maxSocketPath = 103
	// probeTimeout bounds the question whether someone answers at a socket: the kernel answers for
	// a listening process, so any wait means that one is there.
	probeTimeout = time.Second
)

// socket is a listening Unix socket that removes its file when it is closed, but
// not a file that has taken its place.
type socket struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listenSocket listens at path. The socket is made in a private directory and moved to its place
// when its mode is right, so that no other user can reach it in between; the move replaces a stale
// socket.
func listenSocket(path string) (*socket, error) {
	if err := free(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".cf")
	if err != nil {
		return nil, fmt.Errorf("control socket %s: make its directory: %w; name another place with --control", path, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tmp := filepath.Join(dir, "s")
	if max(len(tmp), len(path)) > maxSocketPath {
		return nil, fmt.Errorf("control socket %s: the path is too long for a socket; name a shorter one with --control", path)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	s := &socket{UnixListener: ln, path: path}
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		s.file, err = os.Lstat(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: %w", path, err), ln.Close())
	}
	return s, nil
}

// free returns nil when path may be taken: there is nothing, or a socket on which no process
// answers.
func free(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w; name another place with --control", err)
	case st.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("control socket %s: a file that is no socket is there; remove it or name another place with --control", path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("control socket %s: another daemon answers there; stop it or name another place with --control", path)
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("control socket %s: cannot tell whether a daemon is there: %w; name another place with --control", path, err)
}

// Close stops listening and removes the file, if it is still ours.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path)
	}
	return s.UnixListener.Close()
}
