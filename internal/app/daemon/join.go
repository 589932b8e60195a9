package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// The sides as a start that misses one names it.
const (
	sideSource = "source"
	sideTarget = "target"
)

// joining is what a start has still to do when a side was away: its channels are closed when that
// is done, and never where the run is given up before.
type joining struct {
	done    chan struct{} // both journals were read, and belong together
	serving chan struct{} // what serving the target needs is known
	led     time.Time     // since when another process leads; join's own
}

func newJoining() joining {
	return joining{done: make(chan struct{}), serving: make(chan struct{})}
}

// joined reports whether both sides were there once.
func (d *entry) joined() bool {
	select {
	case <-d.joining.done:
		return true
	default:
		return false
	}
}

// join waits for the side that was away at the start, and continues the run when it comes. An error
// then stops the migration, but not the service.
func (d *entry) join(ctx context.Context) error {
	if d.missing != sideTarget {
		close(d.joining.serving)
	}
	if d.missing != "" {
		policy := retry.Policy{OnRetry: obs.Retrying(d.core.log, "the side that is away is waited for")}
		if err := retry.Do(ctx, policy, d.joinOnce); err != nil {
			switch {
			case ctx.Err() != nil:
			case errors.Is(err, journal.ErrLed): // that one moves our clients' database without us
				return err
			default:
				d.core.fail(err)
			}
			return nil
		}
		d.core.log.Info().Str("side", d.missing).Msg("the side that was away at the start is there; the run continues")
	}
	if d.missing == sideTarget {
		close(d.joining.serving)
	}
	close(d.joining.done)
	return nil
}

func (d *entry) joinOnce(ctx context.Context) error {
	id, err := d.tryJoin(ctx)
	switch {
	case err == nil:
		d.adopt(id)
		return nil
	case errors.Is(err, journal.ErrLed):
		if d.joining.led.IsZero() {
			d.joining.led = time.Now()
		}
		if time.Since(d.joining.led) > runs.LedPatience {
			return retry.Permanent(err)
		}
	case pg.ConnectionLost(err), errors.Is(err, errAway), errors.As(err, new(*journal.PredecessorError)), watch.Passing(err):
		d.joining.led = time.Time{}
	default:
		return retry.Permanent(err)
	}
	d.core.mu.Lock()
	d.away = err
	d.core.mu.Unlock()
	return err
}

// errAway says that a side did not let us in.
var errAway = errors.New("it does not let us in")

func (d *entry) tryJoin(ctx context.Context) (runs.Identity, error) {
	var conns [2]*pgx.Conn
	for i, side := range []struct {
		name string
		dsn  pg.DSN
	}{{sideSource, d.core.cfg.Source}, {sideTarget, d.core.cfg.Target}} {
		dialling, cancel := context.WithTimeout(ctx, joinDialTimeout)
		conn, err := pg.Connect(dialling, side.dsn, pg.WithName("open"))
		cancel()
		if err != nil {
			return runs.Identity{}, &awayError{side.name, err}
		}
		defer dbconn.CloseNow(conn)
		conns[i] = conn
	}
	return d.joinSides(ctx, conns[0], conns[1], false, func() error {
		return pg.Wrap(d.lead.Begin(ctx), "source")
	})
}

// awayError says that a side does not let us in.
type awayError struct {
	side  string
	cause error
}

func (e *awayError) Error() string        { return e.side + ": " + e.cause.Error() }
func (e *awayError) Unwrap() error        { return e.cause }
func (e *awayError) Is(target error) bool { return target == errAway }

// adopt continues the run that both journals describe.
func (d *entry) adopt(id runs.Identity) {
	d.core.migration.Task.Adopt(id)
	majors := [2]int{d.versions[0] / 10000, d.versions[1] / 10000}
	d.core.source.Version, d.core.source.Majors = d.versions[0], majors
	d.core.target.Majors = majors
	if d.missing == sideTarget { // else it is known, and may be in use
		d.core.target.Key = id.Target.Key
	}
	d.found(id)
}

// awaitServing returns when what serving the target needs is known.
func (d *entry) awaitServing(ctx context.Context) error {
	select {
	case <-d.joining.serving:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the target's journal has not been read: %w", d.awayNow())
	}
}

// mayTake is an error while this process may not act on the run's row: before it leads, and,
// without waiting for it once more, while the source has been away since the start.
func (d *entry) mayTake(ctx context.Context) error {
	if d.missing == sideSource && !d.joined() {
		return d.awayNow()
	}
	return d.lead.Begin(ctx)
}

// openProof is called before applications reach the target. It does not wait for a source that has
// been away since the start, nor for one that is no longer needed.
func (d *entry) openProof(ctx context.Context, epoch int64) {
	_, finished := d.finishedEpoch()
	d.core.verify.Reopen(ctx, epoch, !finished && (d.missing != sideSource || d.joined()))
}

// sourceJournalGone reports whether the source has nothing of the run any more, because a finish
// was interrupted.
func (d *entry) sourceJournalGone() bool { return d.joined() && d.identity().Source == nil }

// awayNow says why a side that was away at the start is not there yet, nil where both are.
func (d *entry) awayNow() error {
	d.core.mu.Lock()
	defer d.core.mu.Unlock()
	return d.away
}

// awayBlocker reports the side that has been away since the start, nil if both were reachable.
func (d *entry) awayBlocker() *control.Blocker {
	err := d.awayNow()
	if err == nil || d.joined() {
		return nil
	}
	const remedy = "make it reachable; the run then continues by itself"
	if d.missing == sideTarget {
		if refusedLogin(err) {
			return &control.Blocker{Code: "target_away", Detail: "the target has refused every login since this start: " + err.Error(),
				Remedy: refusedRemedy(err, d.core.cfg.Target) + "; the run continues by itself once the target accepts the login; or start crossfade run again with the right --target"}
		}
		return &control.Blocker{Code: "target_away", Detail: "the target has not been reachable since this start: " + err.Error(), Remedy: remedy}
	}
	return &control.Blocker{Code: "source_away", Detail: "the source has not been reachable since this start: " + err.Error(), Remedy: remedy}
}

// refusedRemedy says how a login that the target has refused is let in.
func refusedRemedy(err error, target pg.DSN) string {
	role := pg.QuoteIdent(target.User())
	switch {
	case pg.IsCode(err, pg.CodeInvalidPassword), pg.NeonRefusesLogin(err) && strings.Contains(err.Error(), "password authentication failed"):
		return "give role " + role + " of the target the password that --target has, in psql on the target: \\password " + role
	case pg.IsCode(err, pg.CodeInvalidAuthorization):
		return "ALTER ROLE " + role + " LOGIN on the target, and let it in by pg_hba.conf"
	case pg.IsCode(err, pg.CodeInvalidCatalog):
		return "bring database " + pg.QuoteIdent(target.Database()) + " of the target back"
	}
	return "remove on the target what its server names"
}

// joinDialTimeout bounds each login to a side that was away at the start: longer than a compute
// needs to wake, and so short that one that was lost on the way does not keep the run waiting.
const joinDialTimeout = 10 * time.Second
