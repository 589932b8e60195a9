package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

const (
	// pulseBound is how long the active side may take to answer; a Neon compute that wakes needs as
	// long.
	pulseBound = 5 * PollInterval
	// pulseMisses is how many answers in a row must be missing before the side counts as away: a
	// server that restarts, or a machine under load, misses one.
	pulseMisses = 2
)

// Pulse says whether the side that serves the applications is there. It is safe for concurrent use.
type Pulse struct {
	Links  map[machine.Side]*dbconn.Link
	Active func() (side machine.Side, finished bool)
	Failed func() int64 // counts the proxy's logins that have brought no server

	mu     sync.Mutex
	side   machine.Side // that was asked last
	misses int
	since  time.Time // of the first of them
	why    error

	known int64 // of failed, when it was asked last; run's own
}

// Run asks every PollInterval until ctx ends. After a finish it asks only once a login of an
// application has failed, until it is answered: an unused compute may sleep then.
func (p *Pulse) Run(ctx context.Context) error {
	for range retry.Every(ctx, PollInterval) {
		side, finished := p.Active()
		failed := p.Failed()
		if side == "" || finished && failed == p.known && !p.missing() {
			continue
		}
		p.known = failed
		p.ask(ctx, side)
	}
	return nil
}

func (p *Pulse) ask(ctx context.Context, side machine.Side) {
	bounded, cancel := context.WithTimeout(ctx, pulseBound)
	defer cancel()
	begun := time.Now()
	err := p.Links[side].Do(bounded, func(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) })
	if ctx.Err() == nil && err != context.DeadlineExceeded { //nolint:errorlint // bare: the link was in use, and nobody was asked
		p.note(side, begun, err)
	}
}

// note keeps an answer, or that there was none. A server that refuses a session of ours is there.
func (p *Pulse) note(side machine.Side, begun time.Time, err error) {
	if pg.Code(err) == pg.CodeTooManyConnections || !pg.ConnectionLost(err) && !errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if side != p.side || err == nil {
		p.side, p.misses, p.why = side, 0, nil
	}
	if err == nil {
		return
	}
	if p.misses == 0 {
		p.since = begun
	}
	p.misses++
	p.why = err
}

func (p *Pulse) missing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.misses > 0
}

// Away says why the side that was asked last does not serve applications now, nil where it does.
func (p *Pulse) Away() (machine.Side, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.misses < pulseMisses {
		return p.side, nil
	}
	return p.side, fmt.Errorf("the %s has not answered since %s: %w", p.side, p.since.UTC().Format("15:04:05 UTC"), p.why)
}
