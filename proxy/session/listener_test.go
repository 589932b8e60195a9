package session

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A capture that is slow because there is much to say goes on; one in which the
// server falls silent, or that has no end, does not.
func TestACaptureIsBoundedByItsSilence(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	q := quiet{last: 7, limit: begun.Add(time.Hour)}
	for i := range int64(5) {
		require.False(t, q.over(begun.Add(time.Duration(i)*time.Minute), 8+i))
	}
	require.True(t, q.over(begun.Add(6*time.Minute), 12), "nothing was heard since the look before")
	require.False(t, q.over(begun.Add(7*time.Minute), 13))
	require.True(t, q.over(begun.Add(time.Hour), 14), "talks for ever")
}
