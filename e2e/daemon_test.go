package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
)

// patience bounds each wait of these tests: servers, clients and the program
// share two cores.
const patience = 2 * time.Minute

// process is one `crossfade run`.
type process struct {
	t       *testing.T
	s       *sides
	listen  string
	socket  string
	extra   []string
	env     []string // more of it
	command []string // "run" with its flags unless given
	client  *control.Client

	cmd  *exec.Cmd
	log  *logged
	done chan struct{}
	err  error
}

// logged collects what the program says. It is safe for concurrent use.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// tail is the end of what was said: enough to see what went wrong.
func (l *logged) tail() string {
	const most = 8 << 10
	s := l.String()
	return s[max(0, len(s)-most):]
}

// newProcess prepares a run between the sides; start starts it.
func newProcess(t *testing.T, s *sides, extra ...string) *process {
	t.Helper()
	port, err := pgcluster.FreePort()
	require.NoError(t, err)
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dir, err := os.MkdirTemp("", "cf") // a socket's path must be short
	require.NoError(t, err)
	p := &process{t: t, s: s, listen: listen, socket: filepath.Join(dir, "c.sock"), extra: extra, log: &logged{}}
	p.client = control.NewClient(p.socket)
	t.Cleanup(func() {
		p.kill()
		if p.command == nil {
			requireLines(t, p.log.String())
		}
		if t.Failed() {
			t.Logf("the program said last:\n%s", p.log.tail())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

// requireLines fails unless each line of a log is a JSON object in which no key stands twice.
func requireLines(t *testing.T, log string) {
	t.Helper()
	for line := range strings.Lines(log) {
		keys := map[string]bool{}
		d := json.NewDecoder(strings.NewReader(line))
		if _, err := d.Token(); err != nil {
			t.Errorf("no JSON: %s", line)
			continue
		}
		for d.More() {
			key, err := d.Token()
			var value json.RawMessage
			if err == nil {
				err = d.Decode(&value)
			}
			if err != nil {
				t.Errorf("%v: %s", err, line)
				break
			}
			if name := fmt.Sprint(key); keys[name] {
				t.Errorf("key %s stands twice: %s", name, line)
			}
			keys[fmt.Sprint(key)] = true
		}
	}
}

// start starts the program, with failpoints such as "cutover.fenced=kill".
func (p *process) start(failpoints ...string) {
	p.t.Helper()
	args := append([]string{"run", "--listen=" + p.listen, "--control=" + p.socket, "--log-format=json", "--log-level=debug", "--verify-max-age=0s"}, p.extra...)
	if p.command != nil {
		args = p.command
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "CROSSFADE_SOURCE="+uri(p.s.source), "CROSSFADE_TARGET="+uri(p.s.target),
		"CROSSFADE_FAILPOINT="+strings.Join(failpoints, ","))
	cmd.Env = append(cmd.Env, p.env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(p.t, cmd.Start())
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		p.err = cmd.Wait()
		close(done)
	}()
}

// uri is a DSN as a user gives it, with its password: for the environment only.
func uri(d pg.DSN) string { return uriAt(d, int(d.Port())) }

// uriAt is uri with another port. The target's, which says much, is in the other form.
func uriAt(d pg.DSN, port int) string {
	if d.Config().TLSConfig != nil {
		info, _ := d.LibpqEnv()
		return fmt.Sprintf("%s password='%s' port=%d", info, d.Password(), port)
	}
	return fmt.Sprintf("postgresql://%s:%s@%s:%d/%s?sslmode=disable", d.User(), d.Password(), d.Host(), port, d.Database())
}

// proxied is the DSN that an application uses.
func (p *process) proxied() pg.DSN {
	host, port, err := net.SplitHostPort(p.listen)
	require.NoError(p.t, err)
	d, err := pg.ParseDSN(fmt.Sprintf("postgresql://%s:%s@%s:%s/%s?sslmode=disable", p.s.source.User(), p.s.source.Password(), host, port, p.s.source.Database()))
	require.NoError(p.t, err)
	return d
}

// kill ends the program as a power failure would.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
	p.cmd = nil
}

// stop ends the program politely and returns its exit code.
func (p *process) stop() int {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	return p.wait()
}

// wait returns the program's exit code, -1 when a signal ended it.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		require.Fail(p.t, "the program does not end")
	}
	p.cmd = nil
	var ee *exec.ExitError
	if errors.As(p.err, &ee) {
		return ee.ExitCode()
	}
	require.NoError(p.t, p.err)
	return 0
}

// await asks for the status until it is as wanted.
func (p *process) await(what string, wanted func(control.Status) bool) control.Status {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last control.Status
	var lastErr error
	for {
		s, err := p.client.Status(ctx)
		if err == nil && wanted(s) {
			return s
		}
		if lastErr = err; err == nil {
			last = s
			for _, b := range s.Blockers {
				require.NotContains(p.t, []string{"migration_stopped", "stream_stopped"}, b.Code, b.Detail)
			}
		}
		select {
		case <-p.done:
			require.Fail(p.t, "the program ended", "while waiting until %s: %v", what, p.err)
		case <-ctx.Done():
			require.Fail(p.t, "the wait was too long", "until %s; last status %+v, %v", what, last, lastErr)
		case <-tick.C:
		}
	}
}

// awaitServing waits until the journal has said which side is active and the
// gate is open.
func (p *process) awaitServing() control.Status {
	p.t.Helper()
	return p.await("it serves", func(s control.Status) bool { return s.Active != "" })
}

func (p *process) awaitFollowing() control.Status {
	p.t.Helper()
	return p.await("it is following", func(s control.Status) bool { return (s.Phase == "following" || s.Phase == "idle") && s.Ready })
}

func (p *process) awaitWhole() {
	p.t.Helper()
	p.await("the tables are compared", func(s control.Status) bool {
		return s.Verify.State == "equal" || s.Verify.State == "different" || s.Verify.State == "not_provable"
	})
}

// request asks for a cutover, again where the refusal says that waiting is all there is to do.
func (p *process) request(ctx context.Context, opt control.CutoverOptions) (r control.CutoverReport, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err = p.client.Cutover(ctx, opt)
		var refused *control.Error
		if !errors.As(err, &refused) || len(refused.Blockers) == 0 || slices.ContainsFunc(refused.Blockers, func(b control.Blocker) bool {
			return b.Code != "not_watched_yet" && b.Code != "definitions_compared" && b.Code != "matview_pending" && b.Code != "way_back_pending"
		}) {
			return r, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return r, err
		}
	}
}

// cutover asks for a cutover that must switch.
func (p *process) cutover() control.CutoverReport {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := p.request(ctx, control.CutoverOptions{})
	require.NoError(p.t, err)
	require.Equal(p.t, control.OutcomeSwitched, r.Outcome, r.Reason)
	return r
}

// finish ends the migration, waiting until the target is whole and every table is proved to be equal.
func (p *process) finish() control.FinishReport {
	p.t.Helper()
	return p.finishUnless(func(b control.Blocker) (accept []string) { return nil })
}

// finishAfterWrites does so where the snapshots of the pause may have been lost and applications wrote
// before a start took new ones: it accepts, as the remedy says, the tables that cannot be proved for
// that reason, and none that differs or is not provable for another one.
func (p *process) finishAfterWrites() control.FinishReport {
	p.t.Helper()
	return p.finishUnless(func(b control.Blocker) (accept []string) {
		const written = ": applications wrote to the target before the table was compared: "
		for _, m := range acceptOption.FindAllStringSubmatch(b.Remedy, -1) {
			require.Contains(p.t, b.Detail, "table "+m[1]+written)
			accept = append(accept, m[1])
		}
		return accept
	})
}

var acceptOption = regexp.MustCompile(`--accept=(\S+)`)

// finishUnless asks until it is granted, with the tables accepted that acceptable names of a
// blocker for which waiting does not help.
func (p *process) finishUnless(acceptable func(control.Blocker) []string) control.FinishReport {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	opt := control.FinishOptions{OpenSource: true}
	var last error
	for {
		r, err := p.client.Finish(ctx, opt)
		if err == nil {
			return r
		}
		var ce *control.Error
		require.True(p.t, errors.As(err, &ce) && ce.Code == control.CodeRefused && ctx.Err() == nil, "%v; before that %v", err, last)
		last = err
		for _, b := range ce.Blockers {
			if b.Code != "tables_differ" && b.Code != "tables_not_proved" {
				continue
			}
			more := acceptable(b)
			require.NotEmpty(p.t, more, "%v", err)
			opt.Accept = append(opt.Accept, more...)
		}
		<-tick.C
	}
}
