package proxy

import (
	"context"
	"testing"
	"time"

	"crossfade/proxy/move"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestVerbsOutOfTurn(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	ctx := within(t)
	_, err := g.Restage(ctx, 5)
	require.ErrorContains(t, err, "not paused")
	_, err = g.Switch(ctx, 5, Target)
	require.ErrorContains(t, err, "not paused")
	var stale *move.EpochError
	_, err = g.Stage(ctx, 4)
	require.ErrorAs(t, err, &stale)
	_, err = g.Pause(ctx, 5, time.Second)
	require.NoError(t, err)
	_, err = g.Pause(ctx, 5, time.Second)
	require.NoError(t, err, "paused already")
	_, err = g.Stage(ctx, 6)
	require.ErrorAs(t, err, &stale, "the pause of epoch 5 is not over")
	require.NoError(t, g.Resume(ctx, 5))
	require.NoError(t, g.Resume(ctx, 5))
	_, err = g.Pause(ctx, 6, time.Second)
	require.NoError(t, err)
	require.ErrorAs(t, g.Resume(ctx, 5), &stale, "a late resume of an attempt that is over")
	require.True(t, g.Status().Closed)
	_, err = g.Switch(ctx, 6, Target)
	require.NoError(t, err)
	_, err = g.Switch(ctx, 6, Target)
	require.NoError(t, err, "switched already")
	_, err = g.Stage(ctx, 6)
	require.ErrorAs(t, err, &stale)
	require.Equal(t, Target, g.side(t, g.dial(t)))
}

func TestBeginsClosed(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Closed, c.Epoch = true, 3 })
	login := make(chan error, 1)
	go func() {
		c, err := pgx.ConnectConfig(context.Background(), g.client.Config())
		if err == nil {
			err = c.Close(context.Background())
		}
		login <- err
	}()
	eventually(t, "the login waits", func() bool { return g.Status().Waiting == 1 })
	_, err := g.Switch(within(t), 4, Target)
	require.NoError(t, err)
	require.NoError(t, <-login)
	require.Equal(t, Target, g.Status().Active)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	g := newRig(t, func(c *Config) { c.Metrics = reg })
	g.dial(t)
	_, err := g.Pause(within(t), 1, 5*time.Second)
	require.NoError(t, err)
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	require.Equal(t, 1.0, got["crossfade_proxy_sessions"])
	require.Equal(t, 1.0, got["crossfade_proxy_sessions_parked"])
}
