package daemon

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/compare"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
)

// Why both sides cannot be compared now is told once, and no longer when it has passed.
func TestAComparisonIsRefusedWhileItCannotBeMade(t *testing.T) {
	t.Parallel()
	d := bare(func(*daemon) {})
	status := func(step machine.StepName, active machine.Side) cutover.Status {
		return cutover.Status{State: machine.State{Step: step}, Active: active, Phase: string(step)}
	}
	for says, s := range map[string]cutover.Status{
		"the two sides cannot be compared in the phase copying; wait until crossfade status shows the phase following": status(machine.Copying, machine.SideSource),
		"the two sides cannot be compared in the phase arming; wait until crossfade status shows the phase following":  status(machine.Arming, machine.SideSource),
		"the migration is finished: the source is not compared any more; compare two databases at rest":                status(machine.Finished, machine.SideTarget),
	} {
		err := d.answers.refuseVerify(s)
		require.ErrorContains(t, err, says)
		require.Equal(t, 1, control.ExitCode(err))
	}
	require.NoError(t, d.answers.refuseVerify(status(machine.Following, machine.SideSource)))
	require.NoError(t, d.answers.refuseVerify(status(machine.Decided, machine.SideTarget)))

	d.entry.missing, d.entry.away = sideTarget, &awayError{sideTarget, errAway}
	err := d.answers.refuseVerify(status(machine.Following, machine.SideSource))
	require.ErrorContains(t, err, "; make it reachable and run this again")
	require.Equal(t, 1, strings.Count(err.Error(), "make it reachable"))
	close(d.entry.joining.done)
	d.entry.missing, d.entry.away = "", nil
	require.NoError(t, d.answers.refuseVerify(status(machine.Following, machine.SideSource)))
}

// After a switch the result of the comparison that follows it is told, with what the sequences say; a
// side that does not answer is named once.
func TestTheResultAfterASwitchHasTheSequences(t *testing.T) {
	t.Parallel()
	b := apptest.NewProofs(t)
	v := apptest.VerificationOf(b, b.SourceDSN)
	require.NoError(t, v.Open(t.Context(), 1))
	b.Decide()
	require.NoError(t, v.Start(t.Context(), 1))
	require.Equal(t, "equal", apptest.AwaitVerdict(t, v).State)
	link := func(dsn pg.DSN) *dbconn.Link {
		l := dbconn.New(dsn)
		t.Cleanup(l.Close)
		return l
	}
	d := bare(func(d *daemon) {
		d.core.verify = v
		d.core.comparison = compare.New(compare.Config{})
		d.sessions.sourceActivity, d.sessions.marking = link(b.SourceDSN), link(b.TargetDSN)
	})
	r, err := d.answers.proved(t.Context())
	require.NoError(t, err)
	require.Equal(t, control.VerifyReport{Outcome: control.Equal, Tables: 2, Sequences: 1}, r)
	nowhere, err := pg.ParseDSN("postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
	require.NoError(t, err)
	d.sessions.sourceActivity = link(nowhere)
	_, err = d.answers.proved(t.Context())
	require.ErrorContains(t, err, "the sequences could not be compared: ")
	require.ErrorContains(t, err, "make both sides reachable, then run crossfade verify again")
	require.Equal(t, 1, strings.Count(err.Error(), "could not be compared"))
	require.Equal(t, 3, control.ExitCode(err))
	d.sessions.sourceActivity = link(b.SourceDSN)
	_, err = d.answers.proved(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, d.answers.StopVerify(t.Context()), "no comparison is running that can be stopped; crossfade status shows what runs")
}
