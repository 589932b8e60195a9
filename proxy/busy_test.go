package proxy

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// TestADrainNamesWhoIsInTheWay has an open and an aborted transaction in it.
func TestADrainNamesWhoIsInTheWay(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := map[int32]bool{}
	g := newRig(t, func(c *Config) {
		c.Explain = func(_ context.Context, pids []int32) map[int32]string {
			mu.Lock()
			defer mu.Unlock()
			words := map[int32]string{}
			for _, pid := range pids {
				asked[pid] = true
				words[pid] = fmt.Sprintf("explained %d", pid)
			}
			return words
		}
	})
	cfg := g.client.Config()
	cfg.RuntimeParams = map[string]string{"application_name": "billing"}
	var pids []int32
	for _, sql := range []string{"SELECT 1", "SELECT 1/0"} {
		conn, err := pgx.ConnectConfig(within(t), cfg)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		tx, err := conn.Begin(within(t))
		require.NoError(t, err)
		var pid int32
		require.NoError(t, tx.QueryRow(within(t), "SELECT pg_backend_pid()").Scan(&pid))
		pids = append(pids, pid)
		_, _ = tx.Exec(within(t), sql)
	}
	_, err := g.Pause(within(t), 1, 50*time.Millisecond)
	var late *DrainTimeoutError
	require.ErrorAs(t, err, &late)
	require.Len(t, late.Sessions, 2)
	require.Equal(t, fmt.Sprintf("in transaction; explained %d", late.Sessions[0].ServerPID), late.Sessions[0].Detail)
	require.Equal(t, fmt.Sprintf("in an aborted transaction, which can only be rolled back; explained %d", late.Sessions[1].ServerPID), late.Sessions[1].Detail)
	for i, n := range late.Sessions {
		require.Equal(t, "billing", n.Application)
		require.Equal(t, pids[i], n.ServerPID)
		require.True(t, asked[n.ServerPID])
		require.ErrorContains(t, err, fmt.Sprintf(`session %d of %s from %s (application "billing", server process %d): `, n.Session, n.User, n.Client, n.ServerPID))
	}
}

// TestAPauseThatComesToNothingTellsWhoWasHeld counts a client that waited at the gate.
func TestAPauseThatComesToNothingTellsWhoWasHeld(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	idle, open := g.dial(t), g.dial(t)
	tx, err := open.Begin(within(t))
	require.NoError(t, err)
	require.Zero(t, g.TakeHeld(within(t)).Sessions)
	paused := make(chan error, 1)
	go func() {
		_, err := g.Pause(context.Background(), 1, 500*time.Millisecond)
		paused <- err
	}()
	g.awaitHeld(t)
	_, err = idle.Exec(within(t), "SELECT 1") // held until the gate is open again
	require.NoError(t, err)
	require.Error(t, <-paused)
	require.NoError(t, g.Resume(within(t), 1))
	held := g.TakeHeld(within(t))
	require.Equal(t, 1, held.Sessions)
	require.Greater(t, held.Max, 100.0)
	require.Zero(t, g.TakeHeld(within(t)).Sessions, "told once")
	require.NoError(t, tx.Rollback(within(t)))
}
