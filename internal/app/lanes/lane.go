package lanes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/apply"
	"crossfade/replicate/progress"
	"crossfade/schema/passive"
)

// Lane leads from one side to the other. Run is called once; the other methods are safe for
// concurrent use.
type Lane struct {
	Direction machine.Direction // whose closing side it reads, and whose opening side it writes
	Stream    *ports.Following
	From, To  *dbconn.Link // short statements on the side that is read and on the one that is written
	// Writing opens a session to the side that is written, which passes its fence.
	Writing func(ctx context.Context) (*pgx.Conn, error)
	// Config is what the stream reads and writes; whether it marks its transactions and in which mode
	// it writes is filled in.
	Config func(ctx context.Context) (apply.Config, error)
	// Prepared, if set, reports whether there is a slot to watch.
	Prepared func() bool
	// Closed, if set, is called in the transaction that makes the side passive that is written.
	Closed func(ctx context.Context, conn *pgx.Conn) error
	// Aside says what package passive cannot read from the catalog of the side that is written.
	Aside  func(ctx context.Context, conn *pgx.Conn) (passive.Config, error)
	Status func() cutover.Status
	Log    zerolog.Logger

	mu     sync.Mutex
	failed error // why it does not follow, nil while it does or need not
}

// poll is how often it is looked whether the active side is another one.
const poll = 50 * time.Millisecond

// lockTimeout bounds each lock that is taken to make a side passive. Nobody writes there; who reads
// it for longer is waited for.
const lockTimeout = 2 * time.Second

// Follows reports whether the lane is to follow, as far as the coordinator knows: the side that it
// reads is the active one.
func (l *Lane) Follows() bool {
	s := l.Status()
	return s.Active == l.Direction.Closing()
}

// Run follows and watches in turns until ctx ends or the run is finished. Errors of the stream that
// no new try removes are kept for Err, and the lane stands still until the active side is another
// one.
func (l *Lane) Run(ctx context.Context) {
	for ctx.Err() == nil && l.Status().State.Step != machine.Finished {
		if l.Prepared != nil && !l.Prepared() && !l.Follows() {
			_ = retry.Sleep(ctx, poll)
			continue
		}
		follows := l.Follows()
		var err error
		if follows {
			err = l.follow(ctx)
		} else {
			err = l.watch(ctx)
		}
		l.fail(err)
		if err != nil && ctx.Err() == nil {
			l.Log.Error().Err(err).Bool("follows", follows).Msg("a stream of changes has stopped")
		}
		for range retry.Poll(ctx, poll) {
			if l.Follows() != follows || l.Status().State.Step == machine.Finished {
				break
			}
		}
	}
}

func (l *Lane) fail(err error) {
	l.mu.Lock()
	l.failed = err
	l.mu.Unlock()
}

// Err says why the lane has stopped, nil where it works.
func (l *Lane) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// follow makes the other side passive and applies what is written, until a decision closes the lane.
func (l *Lane) follow(ctx context.Context) error {
	var cfg apply.Config
	err := l.patiently(ctx, "following begins", func(ctx context.Context) (err error) {
		if cfg, err = l.Config(ctx); err != nil {
			return err
		}
		cfg.Writes.Marked = true
		made, err := l.begin(ctx, cfg)
		if made {
			cfg.Writes.Enter = passive.Enter
		}
		return err
	})
	if err != nil {
		return err
	}
	return l.Stream.Run(ctx, cfg)
}

// patiently tries until it succeeds, ctx ends, or the side that is read is no longer the active one.
func (l *Lane) patiently(ctx context.Context, what string, try func(context.Context) error) error {
	err := retry.Do(ctx, retry.Policy{OnRetry: func(a retry.Attempt) {
		l.fail(a.Err)
		obs.Retrying(l.Log, what)(a)
	}}, func(ctx context.Context) error {
		err := try(ctx)
		if err != nil && !l.Follows() {
			return retry.Permanent(err)
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// begin makes the side that is written passive and opens the lane, unless that was done for the
// newest decision. It returns whether it is passive: before the first decision, what reacts is not
// there yet.
func (l *Lane) begin(ctx context.Context, cfg apply.Config) (made bool, err error) {
	opened, err := dbconn.Ask(ctx, l.From, func(ctx context.Context, conn *pgx.Conn) (journal.Opening, error) {
		return journal.LastCommit(ctx, conn)
	})
	if err != nil || opened.Epoch == 0 {
		return false, err
	}
	conn, err := l.Writing(ctx)
	if err != nil {
		return false, err
	}
	defer dbconn.CloseNow(conn)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := pg.Exec(ctx, conn, journal.SetLocalLockTimeout(lockTimeout)+"SET LOCAL synchronous_commit = on;"); err != nil {
			return err
		}
		if done, err := journal.PassiveFor(ctx, tx, opened.Epoch); err != nil || done {
			return err
		}
		if l.Closed != nil {
			if err := l.Closed(ctx, conn); err != nil {
				return err
			}
		}
		aside, err := l.Aside(ctx, conn)
		if err != nil {
			return err
		}
		if err := passive.Make(ctx, conn, aside); err != nil {
			return err
		}
		if err := journal.SetPassive(ctx, tx, opened.Epoch); err != nil {
			return err
		}
		return progress.Reopen(ctx, tx, ports.Lane, cfg.Start, opened.Nonce, opened.LSN)
	})
	if err != nil {
		return false, fmt.Errorf("make the %s passive: %w", l.Direction.Opening(), err)
	}
	return true, nil
}

// watch reads the side that is closed until a decision opens it.
func (l *Lane) watch(ctx context.Context) error {
	err := retry.Do(ctx, retry.Policy{OnRetry: obs.Retrying(l.Log, "the closed side is watched again")}, func(ctx context.Context) error {
		if l.Follows() || l.Status().State.Step == machine.Finished {
			return nil
		}
		err := l.watchOnce(ctx)
		if opened, ok := errors.AsType[*apply.OpenedError](err); ok {
			l.Log.Info().Str(obs.KeyLSN, opened.LSN.String()).Msg("the side that was watched has been opened")
			return nil
		}
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (l *Lane) watchOnce(ctx context.Context) error {
	cfg, err := l.Config(ctx)
	if err != nil {
		return err
	}
	start, err := dbconn.Ask(ctx, l.From, func(ctx context.Context, conn *pgx.Conn) (pg.LSN, error) {
		return ports.RestFrom(ctx, conn, cfg.Slot)
	})
	if err != nil {
		return err
	}
	closed, err := dbconn.Ask(ctx, l.To, ports.ClosedAt)
	if err != nil && !errors.Is(err, progress.ErrNoLane) {
		return err
	}
	return l.Stream.Watch(ctx, cfg, l.Status().Epoch, start, closed)
}
