package scram

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestTurnsAreFair: of one slot, an owner with a hundred waiters gets every second turn while
// another waits.
func TestTurnsAreFair(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &turns{free: 1, queues: map[string][]chan struct{}{}}
		require.NoError(t, u.take(t.Context(), "holder"))
		served := make(chan string, 200)
		wait := func(owner string) {
			go func() {
				if u.take(t.Context(), owner) == nil {
					served <- owner
				}
			}()
			synctest.Wait()
		}
		for range 100 {
			wait("greedy")
		}
		for range 3 {
			wait("modest")
		}
		var got []string
		for range 103 {
			u.give()
			got = append(got, <-served)
		}
		require.Equal(t, []string{"greedy", "modest", "greedy", "modest", "greedy", "modest", "greedy"}, got[:7])
		u.give()
		require.Equal(t, 1, u.free)
		require.Empty(t, u.queues)
		require.Empty(t, u.order)
	})
}

// TestTurnsGiveUp: who does not wait any longer loses no slot, whether the turn came meanwhile or
// not.
func TestTurnsGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &turns{free: 1, queues: map[string][]chan struct{}{}}
		require.NoError(t, u.take(t.Context(), "holder"))
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for _, owner := range []string{"a", "b"} {
			go func() { errs <- u.take(ctx, owner) }()
			synctest.Wait()
		}
		cancel()
		require.ErrorIs(t, <-errs, context.Canceled)
		require.ErrorIs(t, <-errs, context.Canceled)
		require.Empty(t, u.queues)
		require.Empty(t, u.order)
		u.give()
		require.NoError(t, u.take(t.Context(), "c"))
		u.give()
		require.Equal(t, 1, u.free)
	})
}

// TestTurnThatComesTooLate: a turn that comes in the moment in which its waiter gives up is not
// lost.
func TestTurnThatComesTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &turns{free: 1, queues: map[string][]chan struct{}{}}
		late := 0
		for range 200 {
			require.NoError(t, u.take(t.Context(), "holder"))
			ctx, cancel := context.WithCancel(t.Context())
			came := make(chan error, 1)
			go func() { came <- u.take(ctx, "waiter") }()
			synctest.Wait()
			cancel()
			u.give()
			if <-came == nil {
				u.give()
			} else {
				late++
			}
			synctest.Wait()
			require.Equal(t, 1, u.free)
		}
		require.NotZero(t, late)
	})
}
