package poll

import (
	"testing"

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
