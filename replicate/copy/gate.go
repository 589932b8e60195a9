package copy

import (
	"context"
	"sync"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

const (
	// gateWindow is how long a number of jobs is tried before it is judged: some
	// chunks' worth of rows, and longer than a checkpoint holds writers up.
	gateWindow = 5 * time.Second
	// gateCollapse is the share of the best throughput seen below which the target
	// is taken to push back.
	gateCollapse = 1.0 / 3
	// gateWorse is the share of the former throughput below which one more job has done harm.
	gateWorse = 0.9
	// gateRest is for how many windows a job that has done harm is left out.
	gateRest = 12
)

// gate lets as many jobs work as the target takes well: additive increase, multiplicative decrease,
// judged by bytes a second and by refusals for want of connections or memory.
type gate struct {
	mu     sync.Mutex
	pace   pace
	active int
	idle   bool          // in this window a job had no work, so that its bytes say nothing
	wake   chan struct{} // closed and replaced when the limit is raised or a job leaves
}

// enter waits until one more job may work. It returns false when ctx ends.
func (g *gate) enter(ctx context.Context) bool {
	for {
		g.mu.Lock()
		if g.active < g.pace.limit {
			g.active++
			g.mu.Unlock()
			return true
		}
		wake := g.wake
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-wake:
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.active--
	g.changed()
}

func (g *gate) changed() {
	close(g.wake)
	g.wake = make(chan struct{})
}

// starved records that a job found no work.
func (g *gate) starved() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.idle = true
}

// refused takes in an error. It returns true if fewer jobs will work now, so that
// the task is to be tried again.
func (g *gate) refused(err error) bool {
	if !pg.IsCode(err, pg.CodeTooManyConnections, codeOutOfMemory, pg.CodeConfigurationLimit) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pace.refused()
}

// codeOutOfMemory is the SQLSTATE of a server that has no memory left.
const codeOutOfMemory = "53200"

// run judges each window until ctx ends. moved returns the bytes relayed so far.
func (g *gate) run(ctx context.Context, moved func() int64, say func(limit int)) {
	last := moved()
	for range retry.Every(ctx, gateWindow) {
		now := moved()
		g.mu.Lock()
		before := g.pace.limit
		if !g.idle {
			g.pace.judge(float64(now-last) / gateWindow.Seconds())
		}
		limit := g.pace.limit
		g.idle = false
		g.changed()
		g.mu.Unlock()
		last = now
		if limit != before {
			say(limit)
		}
	}
}

// pace is how many jobs may work, and what is known of that. It is not safe for concurrent use.
type pace struct {
	jobs, limit int
	best        float64 // greatest throughput of a window
	last        float64 // throughput of the last window
	raised      bool    // the limit was raised before the last window
	rest        int     // windows in which it is not raised
	pushed      bool    // a refusal has lowered the limit in this window
}

// refused halves the limit, once in a window. It returns false where there is nothing to halve.
func (p *pace) refused() bool {
	if p.pushed {
		return true
	}
	if p.limit == 1 {
		return false
	}
	p.limit, p.pushed, p.rest = max(p.limit/2, 1), true, gateRest
	return true
}

// judge ends a window in which that many bytes a second were moved.
func (p *pace) judge(rate float64) {
	last, raised := p.last, p.raised
	p.last, p.raised = rate, false
	p.best = max(p.best, rate)
	if p.rest > 0 {
		p.rest--
	}
	switch {
	case p.pushed:
		p.pushed = false
	case raised && rate < gateWorse*last:
		p.limit, p.rest = max(p.limit-1, 1), gateRest
	case rate < gateCollapse*p.best && p.limit > 1:
		p.limit, p.rest = max(p.limit/2, 1), 1
		p.best = rate // what was best before is no measure for what comes now
	case p.limit < p.jobs && p.rest == 0:
		p.limit, p.raised = p.limit+1, true
	}
}
