package e2e_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

// fallback asks for a fallback that must lead back to the source.
func (p *process) fallback() control.CutoverReport {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.await("fallback lossless", func(s control.Status) bool { return s.Fallback.State == control.FallbackLossless })
	r, err := p.request(ctx, control.CutoverOptions{Back: true})
	require.NoError(p.t, err)
	require.Equal(p.t, control.OutcomeSwitched, r.Outcome, r.Reason)
	return r
}

// TestAllCheckersAreContentAcrossAFallback: what five applications wrote to the target after the switch is on the source
// after the fallback, and no client notices either.
func TestAllCheckersAreContentAcrossAFallback(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadCheckers(t, s)
	p := newProcess(t, s, "--fallback")
	p.start()
	p.awaitServing()
	all := startCheckers(t, p)
	p.awaitFollowing()
	all.await(20)
	p.cutover()
	all.await(20)
	back := p.fallback()
	all.await(20)
	all.stop()
	all.requireQuiet()
	require.Zero(t, back.ClientErrors)
	all.check(s.source, 2)
	require.Equal(t, "source", p.await("source", func(s control.Status) bool { return true }).Active)
	require.Equal(t, 0, p.stop())
}

// TestAllCheckersAreContentThereAndBackAndThere: the run goes on in the other direction as often as it is asked to,
// without a new copy.
func TestAllCheckersAreContentThereAndBackAndThere(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadCheckers(t, s)
	p := newProcess(t, s, "--fallback")
	p.start()
	p.awaitServing()
	all := startCheckers(t, p)
	p.awaitFollowing()
	changes := 0
	for range 2 {
		all.await(10)
		require.Zero(t, p.cutoverPatiently().ClientErrors)
		all.await(10)
		require.Zero(t, p.fallback().ClientErrors)
		changes += 2
	}
	all.await(10)
	p.cutoverPatiently()
	all.await(10)
	all.stop()
	all.requireQuiet()
	all.check(s.target, changes+1)
	p.awaitWhole()
	p.finish()
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}
