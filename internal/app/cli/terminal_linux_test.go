package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

// patience bounds every wait of these tests.
const patience = time.Minute

// finishing is a daemon that notes how it is asked to finish.
type finishing struct {
	control.Daemon
	mu    sync.Mutex
	asked []control.FinishOptions
}

func (f *finishing) Finish(_ context.Context, opt control.FinishOptions) (control.FinishReport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, opt)
	return control.FinishReport{Dropped: []string{"source: slot crossfade_1"}, Kept: []string{"source: the fence"}}, nil
}

func (f *finishing) all() []control.FinishOptions {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// serveFinishing serves it until the test ends, and returns its socket.
func serveFinishing(t *testing.T, f *finishing) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "control")
	s, err := control.Listen(control.Config{Socket: socket, Daemon: f, Log: zerolog.Nop()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return socket
}

// pseudoTerminal opens a terminal: master is where a person sits, slave what a program has.
// Both are closed with the test, at the latest.
func pseudoTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = master.Close() })
	raw, err := master.SyscallConn() // and not Fd, after which reads have no deadline
	require.NoError(t, err)
	var number int
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
		if failed != nil {
			return
		}
		// Ctrl-C drops what was written to a terminal and not read yet: the words of a program that
		// is faster than that.
		var mode *unix.Termios
		if mode, failed = unix.IoctlGetTermios(int(fd), unix.TCGETS); failed == nil {
			mode.Lflag |= unix.NOFLSH
			failed = unix.IoctlSetTermios(int(fd), unix.TCSETS, mode)
		}
	}))
	require.NoError(t, failed)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

// finishCommand is crossfade finish, as a process of its own.
func finishCommand(t *testing.T, socket string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, append([]string{"finish", "--control=" + socket}, args...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

// runOnTerminal runs the command on a terminal and types the answer once the question is
// there and hangs up where it is empty. It returns what the terminal has shown.
func runOnTerminal(t *testing.T, cmd *exec.Cmd, answer string) (shown string, code int) {
	t.Helper()
	master, slave := pseudoTerminal(t)
	require.NoError(t, master.SetDeadline(time.Now().Add(patience)))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // of its standard input: Ctrl-C is then a signal to it
	require.NoError(t, cmd.Start())
	require.NoError(t, slave.Close())
	var out bytes.Buffer
	buf := make([]byte, 4096)
	for answered := false; ; {
		n, err := master.Read(buf)
		out.Write(buf[:n])
		if err != nil { // EIO: the program was the last that had the terminal open
			require.ErrorIs(t, err, syscall.EIO, out.String())
			break
		}
		if answered || !strings.HasSuffix(out.String(), "[y/N] ") {
			continue
		}
		answered = true
		if answer == "" {
			require.NoError(t, master.Close())
			break
		}
		_, err = master.WriteString(answer)
		require.NoError(t, err)
	}
	_ = cmd.Wait() // its code is asked for
	return strings.ReplaceAll(out.String(), "\r\n", "\n"), cmd.ProcessState.ExitCode()
}

// TestOnlyAYesOnATerminalFinishes types answers on a terminal, of which only a yes has the
// daemon finish; before each it is asked for the plan alone.
func TestOnlyAYesOnATerminalFinishes(t *testing.T) {
	t.Parallel()
	const unchanged = "nothing was changed"
	for name, c := range map[string]struct {
		answer   string
		finishes bool
		code     int
		says     string
	}{
		"yes":          {"yes\n", true, exit.CodeDone, "dropped source: slot crossfade_1\n"},
		"Y":            {"Y\n", true, exit.CodeDone, "dropped source: slot crossfade_1\n"},
		"corrected":    {"n\x7fyes\n", true, exit.CodeDone, "dropped source: slot crossfade_1\n"},
		"no":           {"no\n", false, exit.CodeRefused, unchanged},
		"return":       {"\n", false, exit.CodeRefused, unchanged},
		"another word": {"yes please\n", false, exit.CodeRefused, unchanged},
		"Ctrl-D":       {"\x04", false, exit.CodeRefused, unchanged},
		"Ctrl-C":       {"\x03", false, exit.CodeRefused, unchanged},
		"yes, Ctrl-C":  {"yes\x03", false, exit.CodeRefused, unchanged},
		"hung up":      {"", false, -1, "[y/N] "}, // SIGHUP ends it, or the end of the input if the tests run with that signal ignored
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &finishing{}
			shown, code := runOnTerminal(t, finishCommand(t, serveFinishing(t, f), "--accept=shop.orders"), c.answer)
			if c.code >= 0 || code != exit.CodeRefused {
				require.Equal(t, c.code, code, shown)
			}
			require.Contains(t, shown, "to be dropped: source: slot crossfade_1\nto be kept: source: the fence\nEnd the migration for good? [y/N] ")
			require.Contains(t, shown, c.says)
			want := []control.FinishOptions{{Plan: true, Accept: []string{"shop.orders"}}}
			if c.finishes {
				want = append(want, control.FinishOptions{Accept: []string{"shop.orders"}})
			}
			require.Equal(t, want, f.all())
		})
	}
}

// TestWithoutATerminalAFinishNeedsToBeToldYes says yes where nobody is asked: into a pipe,
// and on a terminal that does not show the question.
func TestWithoutATerminalAFinishNeedsToBeToldYes(t *testing.T) {
	t.Parallel()
	for name, stdin := range map[string]func(t *testing.T, cmd *exec.Cmd){
		"a pipe":  func(_ *testing.T, cmd *exec.Cmd) { cmd.Stdin = strings.NewReader("yes\n") },
		"nothing": func(*testing.T, *exec.Cmd) {},
		"stderr is elsewhere": func(t *testing.T, cmd *exec.Cmd) {
			master, slave := pseudoTerminal(t)
			_, err := master.WriteString("yes\n")
			require.NoError(t, err)
			cmd.Stdin = slave
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &finishing{}
			socket := serveFinishing(t, f)
			for _, yes := range []bool{false, true} {
				var args []string
				if yes {
					args = []string{"--yes"}
				}
				cmd := finishCommand(t, socket, args...)
				stdin(t, cmd)
				out, err := cmd.CombinedOutput()
				if yes {
					require.NoError(t, err, string(out))
					require.Contains(t, string(out), "dropped source: slot crossfade_1\n")
					continue
				}
				require.Error(t, err)
				require.Equal(t, exit.CodeRefused, cmd.ProcessState.ExitCode())
				require.Contains(t, string(out), "nothing was changed: give --yes")
			}
			require.Equal(t, []control.FinishOptions{{Plan: true}, {}}, f.all())
		})
	}
}
