package daemon

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/ports"
	"crossfade/replicate/apply"
)

// A position is shown only while both sides are there to have one.
func TestNoPositionIsShownThatNobodyKnows(t *testing.T) {
	t.Parallel()
	here := apply.Status{SourceConnected: true, TargetConnected: true, AppliedLSN: 0x100, LagBytes: 7, LagMS: 3}
	noSource, noTarget := here, here
	noSource.SourceConnected, noTarget.TargetConnected = false, false
	firstTime := noSource
	noSource.Away, noTarget.Away = apply.SideSource, apply.SideTarget
	boom := errors.New("boom")
	unknown := func(state, applied string) control.Replication {
		return control.Replication{State: state, LagBytes: -1, LagMS: -1, AppliedLSN: applied}
	}
	for name, c := range map[string]struct {
		status       apply.Status
		ferr, failed error
		active       string
		want         control.Replication
	}{
		"running":     {here, nil, nil, "source", control.Replication{State: "running", LagBytes: 7, LagMS: 3, AppliedLSN: "0/100"}},
		"source away": {noSource, nil, nil, "source", unknown("source_away", "0/100")},
		"the target lost, and with it the session with the source": {apply.Status{AppliedLSN: 0x100, LagBytes: 10, LagMS: 5, Away: apply.SideTarget}, nil, nil, "source", unknown("target_away", "")},
		"connecting": {apply.Status{AppliedLSN: 0x100, LagBytes: 10, LagMS: 5}, nil, nil, "source", unknown("connecting", "")},
		"connecting, for the first time, with the target reached first": {firstTime, nil, nil, "source", unknown("connecting", "0/100")},
		"target away":      {noTarget, nil, nil, "source", unknown("target_away", "")},
		"not started":      {apply.Status{}, ports.ErrNotFollowing, nil, "source", unknown("none", "")},
		"stopped":          {here, boom, nil, "source", unknown("stopped", "")},
		"migration failed": {apply.Status{}, ports.ErrNotFollowing, boom, "source", unknown("stopped", "")},
		"switched":         {apply.Status{}, ports.ErrNotFollowing, nil, "target", unknown("ended", "")},
		"nobody serves":    {apply.Status{}, ports.ErrNotFollowing, nil, "", unknown("none", "")},
	} {
		require.Equal(t, c.want, replicationOf(c.status, c.ferr, c.failed, c.active), name)
	}
}

// An alarm says whether the target has what was written past the fence.
func TestAnAlarmSaysWhatTheTargetHas(t *testing.T) {
	t.Parallel()
	const detail = "transaction 7 at 0/100 changed public.a"
	for side, says := range map[machine.Side]string{machine.SideTarget: "the target does not have that", machine.SideSource: "the target gets that like any other change"} {
		told := alarmOf(cutover.Status{Active: side, Alarm: detail})
		require.Equal(t, "alarm", told.Code)
		require.Contains(t, told.Detail, detail)
		require.Contains(t, told.Detail, says)
	}
	require.Nil(t, alarmOf(cutover.Status{Active: machine.SideTarget}))
}
