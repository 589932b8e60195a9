package e2e_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// begin starts a command that talks to the run.
func (p *process) begin(args ...string) *command {
	p.t.Helper()
	return p.s.beginCommand(p.t, append(args, "--control="+p.socket)...)
}

// awaitSaid waits until the command has said something.
func (c *command) awaitSaid(what string) {
	c.t.Helper()
	eventually(c.t, "the command says "+what, func() bool { return strings.Contains(c.out.String(), what) })
}

// wait returns the exit code, -1 when a signal has ended the command.
func (c *command) wait() int {
	c.t.Helper()
	_, code := c.end()
	return code
}

// TestACutoverHasAStopButton asks for cutovers that try again and again because of an open transaction, and takes each
// back in another way: nothing is switched when the transaction has ended, with nobody at the screen.
func TestACutoverHasAStopButton(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	awaitFence(t, s)
	open := application(t, p, "0")
	pgtest.Exec(t, open, "BEGIN; SELECT 1")
	for _, way := range []struct {
		name   string
		end    func(c *command)
		code   int
		reason string
	}{
		{"SIGINT", func(c *command) { require.NoError(t, c.cmd.Process.Signal(syscall.SIGINT)) }, 1, "the command that asked for it was interrupted"},
		{"SIGTERM", func(c *command) { require.NoError(t, c.cmd.Process.Signal(syscall.SIGTERM)) }, 1, "the command that asked for it was interrupted"},
		{"SIGKILL", func(c *command) { require.NoError(t, c.cmd.Process.Signal(syscall.SIGKILL)) }, -1, "the connection of the command that asked for it was lost"},
		{"--cancel", func(*command) {
			cancel := p.begin("cutover", "--cancel")
			require.Zero(t, cancel.wait(), cancel.out.String())
			require.Contains(t, cancel.out.String(), "aborted (epoch ")
			require.Contains(t, cancel.out.String(), "withdrawn by crossfade cutover --cancel")
		}, 1, "withdrawn by crossfade cutover --cancel"},
	} {
		c := p.begin("cutover", "--drain-timeout=300ms", "--attempts=100")
		c.awaitSaid("backoff") // its steps are shown as they happen
		way.end(c)
		require.Equal(t, way.code, c.wait(), "%s: %s", way.name, c.out.String())
		if way.code == 1 {
			require.Contains(t, c.out.String(), "aborted (epoch ", way.name)
			require.Contains(t, c.out.String(), way.reason)
		}
		st := p.await("nothing is under way after "+way.name, func(st control.Status) bool { return st.Operation == nil })
		require.Equal(t, "source", st.Active)
		require.Zero(t, st.Proxy.Parked)
		last, err := p.client.LastCutover(context.Background())
		require.NoError(t, err)
		require.Equal(t, control.OutcomeAborted, last.Outcome)
		require.Contains(t, last.Reason, way.reason, way.name)
	}
	c := p.begin("cutover", "--cancel")
	require.Equal(t, 1, c.wait(), c.out.String())
	require.Contains(t, c.out.String(), "no cutover is running")
	pgtest.Exec(t, open, "COMMIT")
	p.awaitFollowing()

	// From the decision on it is too late, and the command says so and waits for what becomes of it.
	decision := s.holdWhere(t, "target", "crossfade.decision", "NEW.decision = 'commit'")
	c = p.begin("cutover")
	decision.met()
	require.NoError(t, c.cmd.Process.Signal(syscall.SIGINT))
	c.awaitSaid("too late, the decision may have been taken")
	decision.release()
	require.Zero(t, c.wait(), c.out.String())
	require.Contains(t, c.out.String(), "switched (epoch ")
	p.awaitWhole()
	require.Equal(t, 0, p.stop())
}
