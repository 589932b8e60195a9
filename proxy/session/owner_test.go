package session

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/ending"
)

// TestNobodyOwnsASessionThatHasEnded: both ways out of the wait for the turn are open
// then, and Go takes either.
func TestNobodyOwnsASessionThatHasEnded(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancelCause(t.Context())
	end(ending.ErrClientGone)
	r := newRelay(ended, nil, Identity{}, nil)
	for range 50 {
		_, _, err := r.Owner.Own(t.Context())
		require.ErrorIs(t, err, ending.ErrEnded)
	}
	require.Empty(t, r.Owner.turn)
}
