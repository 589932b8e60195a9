package move

import (
	"context"
	"fmt"
	"time"
)

// Quiet holds every session between two transactions while do runs, so that it meets no locks of
// theirs. It waits for at most limit until all are held and then calls do, whether they are or not;
// do has to be short. The gate is open again when Quiet returns, with the error of do. In a pause
// it calls do at once, and leaves the gate closed.
func (p *Mover) Quiet(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	select {
	case p.verb <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("wait for another step of the move: %w", ctx.Err())
	}
	defer func() { <-p.verb }()
	if p.attempt.paused {
		return do(ctx)
	}
	p.attempt.generation = p.gate.Close()
	defer p.open()
	p.HoldAll(true)
	standing, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, r := range p.List() {
		if r.Standstill(standing) != nil {
			break
		}
	}
	return do(ctx)
}
