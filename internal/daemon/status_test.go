package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/pg"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
)

// A position is shown only while both sides are there to have one.
func TestNoPositionIsShownThatNobodyKnows(t *testing.T) {
	t.Parallel()
	here := apply.Status{SourceConnected: true, TargetConnected: true, AppliedLSN: 0x100, LagBytes: 7, LagMS: 3}
	noSource, noTarget := here, here
	noSource.SourceConnected, noTarget.TargetConnected = false, false
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
		"connecting":       {apply.Status{AppliedLSN: 0x100, LagBytes: 10, LagMS: 5}, nil, nil, "source", unknown("none", "")},
		"target away":      {noTarget, nil, nil, "source", unknown("target_away", "")},
		"not started":      {apply.Status{}, errNotFollowing, nil, "source", unknown("none", "")},
		"stopped":          {here, boom, nil, "source", unknown("stopped", "")},
		"migration failed": {apply.Status{}, errNotFollowing, boom, "source", unknown("stopped", "")},
		"switched":         {apply.Status{}, errNotFollowing, nil, "target", unknown("ended", "")},
		"nobody serves":    {apply.Status{}, errNotFollowing, nil, "", unknown("none", "")},
	} {
		require.Equal(t, c.want, replicationOf(c.status, c.ferr, c.failed, c.active), name)
	}
}

// What was seen of a source that is away is no news, and warns of nothing.
func TestFiguresOfASourceThatIsAwayAreNotShown(t *testing.T) {
	t.Parallel()
	source, err := pg.ParseDSN("postgresql://somebody@127.0.0.1/somewhere")
	require.NoError(t, err)
	g := newGuard(Config{Source: source}, zerolog.Nop())
	show := func() (s control.Status) {
		g.status(&s)
		return s
	}
	require.Equal(t, control.Replication{RetainedWALBytes: -1, SafeWALBytes: -1, XminAge: -1}, show().Replication, "nobody has looked yet")
	g.figures = slot.Figures{At: time.Now(), Retained: 5 << 30, Status: "extended", Safe: 9, XminAge: 3}
	g.verdict = slot.Verdict{Reasons: []slot.Reason{{Code: "wal_budget"}}}
	s := show()
	require.EqualValues(t, 5<<30, s.Replication.RetainedWALBytes)
	require.Equal(t, "extended", s.Replication.WALStatus)
	require.Len(t, s.Warnings, 1)
	g.figures.At = time.Now().Add(-2 * figuresAge)
	s = show()
	require.Equal(t, control.Replication{RetainedWALBytes: -1, SafeWALBytes: -1, XminAge: -1}, s.Replication)
	require.Empty(t, s.Warnings)
}
