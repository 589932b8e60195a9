package proxy

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNobodyOwnsASessionThatHasEnded: both ways out of the wait for the turn are open
// then, and Go takes either.
func TestNobodyOwnsASessionThatHasEnded(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancelCause(t.Context())
	end(errClientGone)
	r := &relay{turn: make(chan struct{}, 1), ctx: ended}
	for range 50 {
		_, _, err := r.own(t.Context())
		require.ErrorIs(t, err, errEnded)
	}
	require.Empty(t, r.turn)
}
