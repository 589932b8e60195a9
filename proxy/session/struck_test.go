package session

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A proxy that starts in the middle of an attempt has not seen its beginning.
func TestAnAttemptThatGoesOnCountsWhoIsEnded(t *testing.T) {
	t.Parallel()
	var s struck
	s.Begin(false)
	s.Add(1, Note{}, false)
	s.Add(1, Note{}, false)
	s.Spare(2)
	s.Add(2, Note{}, false)
	require.EqualValues(t, 1, s.Sum())
}
