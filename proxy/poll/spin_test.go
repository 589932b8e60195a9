package poll

import (
	"runtime"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// looked lets a spin meet some hundred waits, of which those pay that pays says, and
// returns in how many it looked on.
func looked(s *spin, waits int, pays func(i int) bool) (n int) {
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
	require.Equal(t, waits/spinRetry, looked(&s, waits, func(int) bool { return false }), "a look now and then finds out that times have changed")
	require.Greater(t, looked(&s, waits, func(int) bool { return true }), waits-2*spinRetry, "it pays: it is found out, and gone on with")
	require.Greater(t, looked(&s, waits, func(i int) bool { return i%4 > 0 }), waits/2, "three of four are enough")
	require.Less(t, looked(&s, waits, func(i int) bool { return i%2 == 0 }), waits/10, "one of two is not")
}

// crew stands for an engine with so many sessions.
type crew struct{ n int }

func (c *crew) sessions() int { return c.n }

func TestCrowdedEnginesShare(t *testing.T) {
	t.Parallel()
	list := []*crew{{}, {}, {}}
	for range FullHouse {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{FullHouse}, {}, {}}, list, "few sessions keep together")
	for range 2 * FullHouse {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{FullHouse}, {FullHouse}, {FullHouse}}, list, "more fill up the others")
	for range 30 {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{FullHouse + 10}, {FullHouse + 10}, {FullHouse + 10}}, list)
	list[0].n = FullHouse - 1
	require.Same(t, list[0], choose(list, 0))
}

// TestEnginesLookOnInTurns and leave cores to others.
func TestEnginesLookOnInTurns(t *testing.T) {
	t.Parallel()
	var g Engines
	g.Start(zerolog.Nop())
	defer g.Stop()
	if !g.Any() {
		t.Skip("there are no engines here")
	}
	list := *g.running.Load()
	for _, e := range list {
		require.Equal(t, list[0].looking, e.looking, "they look on in turns")
		require.LessOrEqual(t, cap(e.looking), max(1, runtime.GOMAXPROCS(0)/2))
	}
}
