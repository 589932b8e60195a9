// Package neontest gives tests their databases that are like Neon's: clusters that
// the tests of one binary share, behind one front, and a database for each test.
package neontest

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// front stands before every endpoint of a test binary.
var front struct {
	mu        sync.Mutex
	front     *neonlike.Front
	stop      context.CancelFunc
	ended     chan error
	endpoints map[*pgcluster.Cluster]*neonlike.Endpoint
}

// Shared returns the test binary's cluster that is like Neon, with room for the sessions
// of several tests. Tests must not stop it.
func Shared(t testing.TB) *pgcluster.Cluster {
	t.Helper()
	return pgtest.SharedAs(t, "neon", func() pgcluster.Config {
		b, err := pgcluster.Find()
		require.NoError(t, err)
		cfg := neonlike.Config(b, true)
		cfg.Settings["max_connections"] = "400"
		return cfg
	})
}

// Own returns a cluster of the test's own, which it may stop and suspend.
func Own(t testing.TB) *pgcluster.Cluster {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	return pgtest.Own(t, pgtest.Target, func(c *pgcluster.Config) { *c = neonlike.Config(b, false) })
}

// Endpoint returns the endpoint of a cluster that is like Neon. A test binary that
// calls it hands Close to pgtest.Main.
func Endpoint(t testing.TB, c *pgcluster.Cluster) *neonlike.Endpoint {
	t.Helper()
	front.mu.Lock()
	defer front.mu.Unlock()
	if front.front == nil {
		f, err := neonlike.Listen(neonlike.FrontConfig{})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(context.Background())
		front.front, front.stop, front.ended = f, stop, make(chan error, 1)
		front.endpoints = map[*pgcluster.Cluster]*neonlike.Endpoint{}
		go func() { front.ended <- f.Run(ctx) }()
	}
	if front.endpoints[c] == nil {
		front.endpoints[c] = front.front.Add(c)
	}
	return front.endpoints[c]
}

// Database makes a database as a Neon project has it, dropped at the end of the test, and
// returns its owner's DSN through the front.
func Database(t testing.TB, e *neonlike.Endpoint) pg.DSN {
	t.Helper()
	name := "n" + strings.ToLower(rand.Text()[:12])
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	plain, err := neonlike.Prepare(ctx, e.Cluster(), neonlike.Options{Owner: name, Database: name})
	require.NoError(t, err)
	t.Cleanup(func() { pgtest.Drop(t, e.Cluster(), name) })
	return e.DSN(plain.User(), plain.Password(), plain.Database())
}

// Close ends the front when all tests have ended.
func Close() error {
	front.mu.Lock()
	defer front.mu.Unlock()
	if front.front == nil {
		return nil
	}
	front.stop()
	return <-front.ended
}
