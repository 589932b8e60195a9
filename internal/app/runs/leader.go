package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

const (
	// leadPatience is how long a start waits for the lock of a process that has
	// ended: a server notices a closed socket at once unless it is busy.
	leadPatience = 10 * time.Second
	leadPoll     = 100 * time.Millisecond
	// LedPatience is how long another session may hold the lock of a process that had it: longer
	// than the server needs to notice by its keepalives that our old session is gone.
	LedPatience = 90 * time.Second
)

// Leader holds the lock by which one process leads a source, in a session of its own. It
// may be used by several goroutines, which take turns.
type Leader struct {
	dsn pg.DSN
	log zerolog.Logger

	turn  chan struct{} // holds one token: the right to use what follows
	conn  *pgx.Conn     // has the lock; nil when it was lost, or never had
	begun bool          // it was had once
	since time.Time     // since when another session has it; zero for no other
}

// NewLeader returns a leader of the source that dsn names. It has no lock until it is given one.
func NewLeader(dsn pg.DSN, log zerolog.Logger) *Leader {
	l := &Leader{dsn: dsn, log: log, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// LeadName is what the session of a leader does, with what tells an operator which process it is.
func LeadName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("%s process %d on %s", journal.LeadName, os.Getpid(), host)
}

// Take is given a session that has taken the lock, and owns it from then on.
func (l *Leader) Take(conn *pgx.Conn) {
	<-l.turn
	dbconn.CloseNow(l.conn)
	l.conn, l.begun, l.since = conn, true, time.Time{}
	l.turn <- struct{}{}
}

// Begin makes sure that the lock was had once: a start without the source acts on it only
// then. A session of ours that was lost since is no reason to wait.
func (l *Leader) Begin(ctx context.Context) error {
	return l.inTurn(ctx, func() error {
		if l.begun {
			return nil
		}
		return l.again(ctx)
	})
}

// Keep makes sure that the lock is still ours. Its error says that another process has taken it
// for good; that the source is away is none.
func (l *Leader) Keep(ctx context.Context) error {
	var lost error
	err := l.inTurn(ctx, func() error {
		if l.conn != nil && l.conn.Ping(ctx) == nil {
			return nil
		}
		err := l.again(ctx)
		if !errors.Is(err, journal.ErrLed) {
			return err
		}
		// The server may not have noticed yet that our old session is gone; if it
		// is another process, that one moves our clients' database without us.
		if l.since.IsZero() {
			l.since = time.Now()
		}
		if time.Since(l.since) < LedPatience {
			l.log.Warn().Err(err).Msg("the leader's lock is held by another session")
			return nil
		}
		lost = err
		return nil
	})
	if err != nil && ctx.Err() == nil {
		l.log.Debug().Err(err).Msg("the leader's lock cannot be taken yet")
	}
	return lost
}

// again takes the lock in a new session; the caller has the turn.
func (l *Leader) again(ctx context.Context) error {
	dbconn.CloseNow(l.conn)
	l.conn = nil
	conn, err := pg.Connect(ctx, l.dsn, pg.WithName(LeadName()))
	if err != nil {
		return err
	}
	if err := journal.Lead(ctx, conn); err != nil {
		dbconn.CloseNow(conn)
		return err
	}
	l.conn, l.begun, l.since = conn, true, time.Time{}
	return nil
}

func (l *Leader) inTurn(ctx context.Context, f func() error) error {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { l.turn <- struct{}{} }()
	return f()
}

// Close gives the lock back. Others of its methods may be called after it.
func (l *Leader) Close() {
	<-l.turn
	dbconn.CloseNow(l.conn)
	l.conn = nil
	l.turn <- struct{}{}
}

// LeadSoon waits a little for the lock: the session of a process that was killed
// a moment ago may still have it. It says whom it waits for.
func LeadSoon(ctx context.Context, conn *pgx.Conn, log zerolog.Logger) error {
	said := int32(-1)
	var err error
	for range retry.PollFor(ctx, leadPoll, leadPatience) {
		err = journal.Lead(ctx, conn)
		var led *journal.LedError
		if !errors.As(err, &led) {
			return err
		}
		if said != led.PID {
			said = led.PID
			log.Warn().Str("leader", led.Who()).Stringer("for", leadPatience).Msg("another Crossfade process works on this database; its session is waited for")
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w (waited for it for %v)", err, leadPatience)
}
