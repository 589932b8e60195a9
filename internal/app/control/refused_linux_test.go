package control_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

// nobody is a user that runs no daemon.
const nobody = 65534

// Who may not reach the socket is told so once, and is answered as the user that runs the daemon.
func TestAnotherUserIsToldWhoseTheSocketIs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c")
	require.NoError(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755)) // so that it is the socket that refuses
	serve(t, &daemon{}, func(cfg *control.Config) { cfg.Socket = path })
	asked := func(user uint32) (string, error) {
		cmd := exec.CommandContext(bounded(t), "/proc/self/exe") // by its path another user cannot reach it
		cmd.Env = append(os.Environ(), asClient+"="+path)
		cmd.Dir = "/"
		if int(user) != os.Geteuid() {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		}
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	me := uint32(os.Geteuid())
	other := uint32(nobody)
	if me != 0 { // who can become nobody else
		other = me
		require.NoError(t, os.Chmod(path, 0))
	}
	said, err := asked(other)
	require.Error(t, err)
	require.Equal(t, 1, strings.Count(said, "control socket "+path+": permission denied"), said)
	require.Contains(t, said, "run this as the user that runs the daemon")
	require.NoError(t, os.Chmod(path, 0o600))
	said, err = asked(me)
	require.NoError(t, err, said)
}

// A daemon that is stopping begins nothing more, which is told once; the one that is started in its
// place does.
func TestWhatADaemonThatStopsIsAskedForIsDoneByTheNext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c")
	at := func(cfg *control.Config) { cfg.Socket, cfg.Log = path, zerolog.Nop() }
	release := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	d := &daemon{asked: make(chan control.CutoverOptions, 1), cutover: func(context.Context) (control.CutoverReport, error) {
		<-release
		return control.CutoverReport{}, nil
	}}
	_, c, stop := serve(t, d, at)
	t.Cleanup(letGo)
	ended := make(chan struct{}, 2)
	go func() {
		_, _ = c.Cutover(context.Background(), control.CutoverOptions{})
		ended <- struct{}{}
	}()
	<-d.asked
	go func() {
		stop()
		ended <- struct{}{}
	}()
	var refused *control.Error
	for within := bounded(t); refused == nil || refused.Code == control.CodeBusy; { // until it has begun to stop
		_, err := c.Cutover(within, control.CutoverOptions{})
		require.True(t, errors.As(err, &refused), err)
	}
	require.Equal(t, control.CodeStopping, refused.Code)
	require.Equal(t, 1, strings.Count(refused.Error(), "the daemon is stopping"), refused)
	require.Equal(t, "ask again when it has been started", refused.Remedy)
	letGo()
	<-ended
	<-ended
	_, c, _ = serve(t, d, at)
	_, err := c.Cutover(bounded(t), control.CutoverOptions{})
	require.NoError(t, err)
}
