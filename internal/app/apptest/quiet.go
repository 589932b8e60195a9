package apptest

import (
	"context"
	"sync/atomic"
	"time"
)

// QuietCalls counts the requests for a moment of quiet, and holds no session.
type QuietCalls struct {
	N     atomic.Int64
	Limit time.Duration
}

// Quiet is a ports.Quiet.
func (c *QuietCalls) Quiet(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	c.N.Add(1)
	c.Limit = limit
	return do(ctx)
}
