package cli

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

// told is a daemon that says what a test has it say.
type told struct {
	control.Daemon
	status   control.Status
	finished []control.FinishOptions
	refuses  error
}

func (d *told) Status(context.Context) (control.Status, error) { return d.status, nil }

func (d *told) Finish(_ context.Context, opt control.FinishOptions) (control.FinishReport, error) {
	d.finished = append(d.finished, opt)
	return control.FinishReport{Dropped: []string{"source: publication crossfade"}, Kept: []string{"source: its fence"}}, d.refuses
}

// socket serves the daemon until the test ends.
func (d *told) socket(t *testing.T) socketFlag {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c")
	s, err := control.Listen(control.Config{Socket: path, Daemon: d, Log: zerolog.Nop()})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return socketFlag{Control: path}
}

func TestStatusOfAMigrationThatHasStopped(t *testing.T) {
	t.Parallel()
	unknown := control.Replication{State: "stopped", LagBytes: -1, LagMS: -1, RetainedWALBytes: -1, SafeWALBytes: -1}
	d := &told{status: control.Status{Phase: control.PhaseStopped, Active: "source", Replication: unknown, Blockers: []control.Blocker{{Code: "migration_stopped", Detail: "the slot is gone", Remedy: "start over"}}}}
	var out bytes.Buffer
	e := &env{ctx: t.Context(), stdout: &out}
	require.Equal(t, exit.CodeNotComplete, e.report((&statusCmd{socketFlag: d.socket(t)}).Run(e)))
	require.Contains(t, out.String(), "phase stopped | active source | epoch 0 | stream stopped | sessions")
	require.Contains(t, out.String(), "blocker migration_stopped: the slot is gone; start over")
	require.NotContains(t, out.String(), "lag")
	require.NotContains(t, out.String(), "-1")

	for state, want := range map[string]string{"source_away": "stream cut off from the source", "ended": "stream ended with the switch", "none": "stream not started", "connecting": "stream connecting"} {
		r := unknown
		r.State = state
		require.Equal(t, " | "+want, replicationText(r))
	}
	require.Equal(t, " | lag 3 ms, 2.0 KiB | applied 0/100 | retained WAL 0 B", replicationText(control.Replication{State: "running", LagBytes: 2048, LagMS: 3, AppliedLSN: "0/100"}))
}

func TestStatusOfASideThatIsAway(t *testing.T) {
	t.Parallel()
	d := &told{status: control.Status{Phase: "on_target", Active: "target", ActiveAway: "nothing listens there"}}
	var out bytes.Buffer
	e := &env{ctx: t.Context(), stdout: &out}
	require.Equal(t, exit.CodeNotComplete, e.report((&statusCmd{socketFlag: d.socket(t)}).Run(e)))
	require.Contains(t, out.String(), "active target (away) |")
}

func TestFinishAsksFirst(t *testing.T) {
	t.Parallel()
	d := &told{}
	socket := d.socket(t)
	var out, said bytes.Buffer
	e := &env{ctx: t.Context(), stdin: bytes.NewBufferString("y\n"), stdout: &out, stderr: &said}
	require.Equal(t, exit.CodeRefused, e.report((&finishCmd{socketFlag: socket}).Run(e)))
	require.Contains(t, said.String(), "give --yes")
	require.Equal(t, []control.FinishOptions{{Plan: true}}, d.finished, "a pipe is nobody who sits there")

	require.NoError(t, (&finishCmd{socketFlag: socket, Yes: true, Accept: []string{"shop.orders"}}).Run(e))
	require.Equal(t, control.FinishOptions{Accept: []string{"shop.orders"}}, d.finished[1], "the source stays closed")
	require.Equal(t, "dropped source: publication crossfade\nkept source: its fence\n", out.String())
	require.NoError(t, (&finishCmd{socketFlag: socket, Yes: true, OpenSource: true}).Run(e))
	require.Equal(t, control.FinishOptions{OpenSource: true}, d.finished[2])

	said.Reset()
	d.refuses = &control.Error{Code: control.CodeRefused, Message: "the source is still active", Remedy: "switch first"}
	require.Equal(t, exit.CodeRefused, e.report((&finishCmd{socketFlag: socket}).Run(e)))
	require.Contains(t, said.String(), "still active", "what would be refused is not asked for")
}
