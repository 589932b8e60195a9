package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

func TestStatusAndSessions(t *testing.T) {
	t.Parallel()
	want := control.Status{Phase: "following", Active: "source", Epoch: 3, Ready: true,
		Copy:     control.Copy{TablesDone: 2, TablesTotal: 2, RowsDone: 7},
		Blockers: []control.Blocker{{Code: "long_transaction", Detail: "d", Remedy: "r"}},
		Warnings: []control.Blocker{{Code: "wal_budget", Detail: "d", Remedy: "r"}}}
	d := &daemon{status: want, sessions: []control.Session{{ID: 1, User: "u", State: "idle", Verdict: "green"}}}
	server, c, _ := serve(t, d, func(c *control.Config) { c.HTTP = "127.0.0.1:0" })
	ctx := bounded(t)
	got, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, want, got)
	list, err := c.Sessions(ctx)
	require.NoError(t, err)
	require.Equal(t, d.sessions, list)
	h, err := c.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, "following", h.Phase)

	stopped := want
	stopped.Phase, stopped.Blockers = control.PhaseStopped, []control.Blocker{{Code: "migration_stopped", Detail: "the slot is gone", Remedy: "start over"}}
	d.set(stopped, nil)
	_, err = c.Health(ctx)
	require.EqualError(t, err, "the migration has stopped: the slot is gone; start over")
	require.Equal(t, exit.CodeNotComplete, control.ExitCode(err))
	for path, want := range map[string]int{"/v1/healthz": http.StatusServiceUnavailable, "/v1/livez": http.StatusOK} {
		resp, err := http.Get("http://" + server.HTTPAddr().String() + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, path)
	}

	lost := want
	lost.Phase, lost.Active, lost.ActiveAway = "on_target", "target", "nothing listens there"
	d.set(lost, nil)
	_, err = c.Health(ctx)
	require.EqualError(t, err, "the applications have no database: nothing listens there; make the target reachable; the applications are served again by themselves when it is")
	require.Equal(t, exit.CodeNotComplete, control.ExitCode(err))

	d.set(control.Status{}, errors.New("journal is gone"))
	_, err = c.Health(ctx)
	require.ErrorContains(t, err, "journal is gone")
	require.Equal(t, exit.CodeNotComplete, control.ExitCode(err))
}

func TestCutoverReportComesBack(t *testing.T) {
	t.Parallel()
	rep := control.CutoverReport{Outcome: control.OutcomeSwitched, Epoch: 4, PauseMS: 210.5,
		Held:     control.Held{Sessions: 3, MaxMS: 214.125},
		Timeline: []control.Event{{Step: "pausing", AtMS: 0, Detail: "3 sessions"}}}
	d := &daemon{asked: make(chan control.CutoverOptions, 1),
		cutover: func(context.Context) (control.CutoverReport, error) { return rep, nil }}
	_, c, _ := serve(t, d)
	ctx := bounded(t)
	_, err := c.LastCutover(ctx)
	require.Equal(t, exit.CodeRefused, control.ExitCode(err))
	opt := control.CutoverOptions{DrainTimeoutMS: 2000, Attempts: 5, MaxPauseMS: 10000}
	got, err := c.Cutover(ctx, opt)
	require.NoError(t, err)
	require.Equal(t, rep, got)
	require.Equal(t, opt, <-d.asked)
	last, err := c.LastCutover(ctx)
	require.NoError(t, err)
	require.Equal(t, rep, last)
}

func TestCutoverUsageIsRefusedBeforeTheDaemonHearsOfIt(t *testing.T) {
	t.Parallel()
	_, c, _ := serve(t, &daemon{})
	_, err := c.Cutover(bounded(t), control.CutoverOptions{DryRun: true, Rehearse: true})
	require.ErrorContains(t, err, "--dry-run or --rehearse")
	require.Equal(t, exit.CodeUsage, control.ExitCode(err))
}

func TestOneOperationAtATimeAndAFinishOutlivesItsClient(t *testing.T) {
	t.Parallel()
	release, asked := make(chan struct{}), make(chan struct{}, 1)
	d := &daemon{finish: func(ctx context.Context) (control.FinishReport, error) {
		asked <- struct{}{}
		select {
		case <-release:
			return control.FinishReport{}, nil
		case <-ctx.Done():
			return control.FinishReport{}, ctx.Err()
		}
	}}
	_, c, _ := serve(t, d)
	ctx := bounded(t)
	first, leave := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() {
		_, err := c.Finish(first, control.FinishOptions{})
		left <- err
	}()
	<-asked

	_, err := c.Cutover(ctx, control.CutoverOptions{})
	require.ErrorContains(t, err, "a finish is running since")
	require.Equal(t, exit.CodeRefused, control.ExitCode(err))
	st, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, "finish", st.Operation.Name)

	leave()
	err = <-left
	require.Equal(t, exit.CodeNotComplete, control.ExitCode(err), "%v", err)
	require.ErrorContains(t, err, "what became of it is not known")
	_, err = c.CancelCutover(ctx, control.CancelOptions{})
	require.ErrorContains(t, err, "no cutover is running", "a finish is none")
	_, err = c.Finish(ctx, control.FinishOptions{})
	require.ErrorContains(t, err, "a finish is running", "the operation ended with its client")

	close(release)
	require.ErrorIs(t, c.Watch(ctx, func(st control.Status) error {
		if st.Operation == nil {
			return errEnough
		}
		return nil
	}), errEnough)
}

func TestRefusalOfTheDaemonReachesTheClient(t *testing.T) {
	t.Parallel()
	_, c, _ := serve(t, &daemon{})
	_, err := c.Finish(bounded(t), control.FinishOptions{})
	require.EqualError(t, err, "the source is active; cut over first")
	require.Equal(t, exit.CodeRefused, control.ExitCode(err))
}

func TestStoppingCancelsTheOperationAndAnswers(t *testing.T) {
	t.Parallel()
	d := &daemon{asked: make(chan control.CutoverOptions, 1)}
	d.cutover = func(ctx context.Context) (control.CutoverReport, error) {
		<-ctx.Done()
		return control.CutoverReport{Outcome: control.OutcomeAborted, Reason: "the daemon stops"}, nil
	}
	_, c, stop := serve(t, d)
	answer := make(chan control.CutoverReport, 1)
	go func() {
		rep, _ := c.Cutover(bounded(t), control.CutoverOptions{})
		answer <- rep
	}()
	<-d.asked
	stop()
	rep := <-answer
	require.Equal(t, control.OutcomeAborted, rep.Outcome)
	_, err := c.Status(bounded(t))
	require.Equal(t, exit.CodeRefused, control.ExitCode(err))
	require.ErrorContains(t, err, "no daemon answers")
}

func TestTCPListenerOnlyReads(t *testing.T) {
	t.Parallel()
	d := &daemon{status: control.Status{Phase: "copying"}}
	s, _, _ := serve(t, d, func(c *control.Config) {
		c.HTTP = "127.0.0.1:0"
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "crossfade_up 1\n") })
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	do := func(method, path string) (int, string) {
		req, err := http.NewRequestWithContext(bounded(t), method, "http://"+s.HTTPAddr().String()+path, strings.NewReader("{}"))
		require.NoError(t, err)
		res, err := client.Do(req)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(b)
	}
	code, body := do(http.MethodGet, "/v1/status")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, `"blockers":[]`)
	code, body = do(http.MethodGet, "/metrics")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "crossfade_up 1\n", body)
	for _, req := range [][2]string{{"POST", "/v1/cutover"}, {"POST", "/v1/finish"}, {"GET", "/v1/cutover"}, {"GET", "/v1/sessions"}, {"POST", "/v1/status"}} {
		code, body = do(req[0], req[1])
		require.Equal(t, http.StatusForbidden, code, req)
		require.Contains(t, body, "read_only")
	}

	_, err := control.Listen(control.Config{Socket: t.TempDir() + "/s", HTTP: s.HTTPAddr().String(), Daemon: d})
	require.ErrorContains(t, err, "name a free port with --http")
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	other, err := control.Listen(control.Config{Socket: t.TempDir() + "/s", HTTP: "127.0.0.1:0", Daemon: d})
	require.NoError(t, err, "a free port")
	require.NoError(t, other.Close())
}
