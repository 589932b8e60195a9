package drivers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// message is one line of a loop.
type message struct {
	Driver     string `json:"driver"`
	Version    string `json:"version"`
	Round      int    `json:"round"`
	Operations int    `json:"operations"`
	Error      string `json:"error"`
}

// loop is a running loop and what it has said so far.
type loop struct {
	close func()       // closes the loop's standard input
	wait  func() error // returns its status, once it has ended
	words *bytes.Buffer

	changed chan struct{} // has an element after each line, closed after the last
	mu      sync.Mutex
	version string
	last    message
	errors  []string
}

// startProgram starts a loop that is a program.
func startProgram(t *testing.T, env, command []string) *loop {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 10 * time.Second // for what a killed program leaves behind
	words := new(bytes.Buffer)
	cmd.Stderr = words
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	l := listen(stdout)
	l.words = words
	l.close = sync.OnceFunc(func() { _ = stdin.Close() })
	l.wait = sync.OnceValue(func() error {
		<-l.drained()
		return cmd.Wait()
	})
	t.Cleanup(func() {
		l.close()
		cancel()
		_ = l.wait()
	})
	return l
}

// startFunction starts a loop that is a function of this package. It ends when its
// context does.
func startFunction(t *testing.T, f func(ctx context.Context, stop <-chan struct{}, out io.Writer) error) *loop {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stop := make(chan struct{})
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := f(ctx, stop, w)
		if err != nil {
			say(w, message{Error: err.Error()})
		}
		_ = w.Close()
		done <- err
	}()
	l := listen(r)
	l.words = new(bytes.Buffer)
	l.close = sync.OnceFunc(func() { close(stop) })
	l.wait = sync.OnceValue(func() error {
		<-l.drained()
		return <-done
	})
	t.Cleanup(func() {
		cancel()
		_ = l.wait()
	})
	return l
}

func say(w io.Writer, m message) {
	line, err := json.Marshal(m)
	if err == nil {
		_, _ = w.Write(append(line, '\n'))
	}
}

func listen(r io.Reader) *loop {
	l := &loop{changed: make(chan struct{}, 1)}
	go func() {
		defer close(l.changed)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			l.heard(lines.Bytes())
			select {
			case l.changed <- struct{}{}:
			default:
			}
		}
	}()
	return l
}

func (l *loop) heard(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var m message
	switch err := json.Unmarshal(line, &m); {
	case err != nil:
		l.errors = append(l.errors, fmt.Sprintf("a line of another form: %q", line))
	case m.Error != "":
		l.errors = append(l.errors, m.Error)
	case m.Driver != "":
		l.version = m.Driver + " " + m.Version
	case m.Round != l.last.Round+1 || m.Operations <= l.last.Operations:
		l.errors = append(l.errors, fmt.Sprintf("round %d with %d operations after round %d with %d", m.Round, m.Operations, l.last.Round, l.last.Operations))
	default:
		l.last = m
	}
}

// drained is closed when the loop says no more.
func (l *loop) drained() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range l.changed {
		}
	}()
	return done
}

func (l *loop) rounds() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.Round
}

// awaitRound waits until the loop has finished n rounds.
func (l *loop) awaitRound(n int) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		l.mu.Lock()
		rounds, failed := l.last.Round, len(l.errors) > 0
		l.mu.Unlock()
		switch {
		case failed:
			return errors.New("the loop reports an error")
		case rounds >= n:
			return nil
		}
		select {
		case _, more := <-l.changed:
			if !more && l.rounds() < n {
				return fmt.Errorf("the loop ended after %d rounds", l.rounds())
			}
		case <-late.C:
			return fmt.Errorf("round %d is not finished after %s", n, patience)
		}
	}
}
