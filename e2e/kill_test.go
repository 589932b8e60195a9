package e2e_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/workload"
)

// Each point kills the program once, where its name says. "run" is started again
// and ends the job.
var (
	killedBefore = []string{ // while schema, copy and stream are under way
		"schema.restored=kill@4", "phase.dumped=kill", "phase.prepared=kill", "copy.chunk=kill@4", "phase.copied=kill", "phase.indexed=kill",
		"follow.applied=kill@40",
	}
	killedWithin = []string{ // in each state of the cutover, and at its commits
		"cutover.arming=kill", "cutover.pausing=kill", "cutover.before_fence_commit=kill", "cutover.fenced=kill",
		"cutover.draining=kill", "cutover.marker_applied=kill", "cutover.deciding=kill", "cutover.before_decision_commit=kill",
		"cutover.after_decision_commit=kill", "cutover.decided=kill", "cutover.switched=kill",
	}
)

func TestKilledWhileItPrepares(t *testing.T) {
	t.Parallel()
	for _, point := range killedBefore {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			killed(t, point, false)
		})
	}
}

func TestKilledInEachStateOfTheCutover(t *testing.T) {
	t.Parallel()
	for _, point := range killedWithin {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			killed(t, point, true)
		})
	}
}

func killed(t *testing.T, point string, within bool) {
	sampleOnly(t, "copy.chunk=kill@4", "follow.applied=kill@40", "cutover.fenced=kill", "cutover.after_decision_commit=kill")
	s := newSides(t)
	library.fill(t, s)
	p := newProcess(t, s)
	p.start(point)
	p.awaitServing()
	w := library.clients(t, p.proxied(), 6, 20)
	if within {
		p.awaitFollowing()
		awaitEach(t, w, 5)
		asked := make(chan error, 1)
		go func() {
			_, err := p.request(context.Background(), control.CutoverOptions{})
			asked <- err
		}()
		require.Equal(t, -1, p.wait(), "the program is killed")
		require.Error(t, <-asked)
	} else {
		require.Equal(t, -1, p.wait(), "the program is killed")
	}
	p.start()
	st := p.awaitServing()
	if st.Active == "source" {
		p.awaitFollowing()
		awaitEach(t, w, 5)
		p.cutover()
	}
	awaitEach(t, w, 10)
	p.finishAfterWrites()
	awaitEach(t, w, 2)
	load := stopClients(w)
	requireLedger(t, s, load, library.scenario, 1)
	require.Zero(t, countStale(load), "a client missed what it had written: %v", load.ErrorTexts)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
	requireSameSchema(t, s.dump(t, s.source), s.dump(t, s.target), "source and target")
}

func countStale(r workload.Report) (n int) {
	for _, o := range r.Operations {
		if o.Stale != "" && o.Outcome == history.OK {
			n++
		}
	}
	return n
}
