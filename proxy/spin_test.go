package proxy

import (
	"testing"

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
	for range fullHouse {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{fullHouse}, {}, {}}, list, "few sessions keep together")
	for range 2 * fullHouse {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{fullHouse}, {fullHouse}, {fullHouse}}, list, "more fill up the others")
	for range 30 {
		choose(list, 0).n++
	}
	require.Equal(t, []*crew{{fullHouse + 10}, {fullHouse + 10}, {fullHouse + 10}}, list)
	list[0].n = fullHouse - 1
	require.Same(t, list[0], choose(list, 0))
}
