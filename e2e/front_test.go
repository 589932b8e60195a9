package e2e_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/neonlike"
	"crossfade/internal/pgcluster"
)

// front stands before every target of these tests. It is started when the first
// one is.
var front fronts

type fronts struct {
	mu        sync.Mutex
	front     *neonlike.Front
	stop      context.CancelFunc
	ended     chan error
	endpoints map[*pgcluster.Cluster]*neonlike.Endpoint
}

// endpointOf returns the endpoint of a cluster that is like Neon.
func endpointOf(t *testing.T, c *pgcluster.Cluster) *neonlike.Endpoint {
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

// close ends the front when all tests have ended.
func (f *fronts) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.front == nil {
		return nil
	}
	f.stop()
	return <-f.ended
}
