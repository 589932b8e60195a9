package poll

import (
	"runtime"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// spunIn lets a spin decide in so many waits, of which those pay for which pays says so, and
// returns in how many it decided to busy-poll.
func spunIn(s *spin, waits int, pays func(i int) bool) (n int) {
	for i := range waits {
		if s.worth() {
			n++
			s.note(pays(i))
		}
	}
	return n
}

func TestSpinFollowsWhatPays(t *testing.T) {
	t.Parallel()
	const waits = 100 * spinRetry
	var s spin
	require.Equal(t, waits/spinRetry, spunIn(&s, waits, func(int) bool { return false }), "a poll now and then finds out that it has begun to pay")
	require.Greater(t, spunIn(&s, waits, func(int) bool { return true }), waits-2*spinRetry, "it pays: it is found out, and gone on with")
	require.Greater(t, spunIn(&s, waits, func(i int) bool { return i%4 > 0 }), waits/2, "three of four are enough")
	require.Less(t, spunIn(&s, waits, func(i int) bool { return i%2 == 0 }), waits/10, "one of two is not")
}

// crew stands for an engine with so many sessions.
type crew struct{ n int }

func (c *crew) sessions() int { return c.n }

func TestCrowdedEnginesShare(t *testing.T) {
	t.Parallel()
	list := []*crew{{}, {}, {}}
	for range CrowdedAt {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{CrowdedAt}, {}, {}}, list, "few sessions keep together")
	for range 2 * CrowdedAt {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{CrowdedAt}, {CrowdedAt}, {CrowdedAt}}, list, "more fill up the others")
	for range 30 {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{CrowdedAt + 10}, {CrowdedAt + 10}, {CrowdedAt + 10}}, list)
	list[0].n = CrowdedAt - 1
	require.Same(t, list[0], choose(list, 0))
}

// TestEnginesShareTheSlotsForBusyPolling: some cores are left to others.
func TestEnginesShareTheSlotsForBusyPolling(t *testing.T) {
	t.Parallel()
	var g Engines
	g.Start(zerolog.Nop())
	defer g.Stop()
	if !g.Any() {
		t.Skip("there are no engines here")
	}
	list := *g.running.Load()
	for _, e := range list {
		require.Equal(t, list[0].spinSlots, e.spinSlots, "they share the slots")
		require.LessOrEqual(t, cap(e.spinSlots), max(1, runtime.GOMAXPROCS(0)/2))
	}
}
