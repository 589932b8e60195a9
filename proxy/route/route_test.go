package route

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGateHoldsLoginsWhileClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		first, err := g.Enter(t.Context())
		require.NoError(t, err)

		generation := g.Close()
		entered := make(chan *Lease)
		go func() {
			l, err := g.Enter(t.Context())
			require.NoError(t, err)
			entered <- l
		}()
		drained := make(chan error, 1)
		go func() { drained <- g.Drained(t.Context()) }()
		synctest.Wait()
		require.Equal(t, GateState{Closed: true, Generation: 1, Leases: 1, Waiting: 1}, g.State())
		require.Empty(t, drained)

		first.Release()
		first.Release()
		synctest.Wait()
		require.NoError(t, <-drained)
		require.Equal(t, 1, g.State().Waiting)

		require.True(t, g.Open(generation))
		second := <-entered
		require.Equal(t, 1, g.State().Leases)
		second.Release()
		require.Equal(t, GateState{Generation: 1}, g.State())
	})
}

func TestGateBoundsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		g.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := g.Enter(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, g.State().Waiting)
	})
}

func TestDrainedBoundsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g Gate
		l, err := g.Enter(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Drained(ctx), context.DeadlineExceeded)
		l.Release()
		require.NoError(t, g.Drained(t.Context()))
	})
}

func TestLateOpenDoesNotOpenALaterClose(t *testing.T) {
	t.Parallel()
	var g Gate
	old := g.Close()
	latest := g.Close()
	require.False(t, g.Open(old))
	require.True(t, g.State().Closed)
	require.True(t, g.Open(latest))
	require.True(t, g.Open(old), "an open gate stays open")
}

func TestRouterNeverGoesBack(t *testing.T) {
	t.Parallel()
	r := NewRouter(Route{Endpoint: "source"})
	require.NoError(t, r.Switch(Route{Epoch: 2, Endpoint: "target"}))
	require.NoError(t, r.Switch(Route{Epoch: 2, Endpoint: "target"}), "the same switch again")

	var stale *StaleError
	require.ErrorAs(t, r.Switch(Route{Epoch: 1, Endpoint: "source"}), &stale)
	require.ErrorAs(t, r.Switch(Route{Epoch: 2, Endpoint: "source"}), &stale)
	require.Equal(t, Route{Epoch: 2, Endpoint: "target"}, r.Current())
	require.NoError(t, r.Switch(Route{Epoch: 3, Endpoint: "source"}))
}
