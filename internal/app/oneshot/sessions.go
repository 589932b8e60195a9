package oneshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
)

// copySessions are the two sessions that a one-shot copy keeps: to the source, and to the target,
// where it holds the leader's lock. It is used by one goroutine.
type copySessions struct {
	source, target pg.DSN    // as they were given
	tagged         [2]pg.DSN // the same with what tells which start a session belongs to
	incarnation    string
	log            zerolog.Logger
	s, t           *pgx.Conn
}

// tag makes the sessions that are opened from now on say which run and start they belong to.
func (c *copySessions) tag(run string) {
	tag := journal.Tag(run, c.incarnation)
	c.tagged = [2]pg.DSN{c.source.WithTag(tag), c.target.WithTag(tag)}
}

// open opens both sessions, becomes the leader of the target, and ends what an earlier start has
// left in both databases, before anything else is checked.
func (c *copySessions) open(ctx context.Context) (err error) {
	if c.s, err = pg.Connect(ctx, c.tagged[0], pg.WithName("control")); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if c.t, err = pg.Connect(ctx, c.tagged[1], pg.WithName("control")); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if err := onedatabase.Refuse(ctx, c.s, c.t); err != nil {
		return err
	}
	if err := runs.LeadSoon(ctx, c.t, c.log); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	run, err := journal.LoadTarget(ctx, c.t)
	if err != nil || run != nil && run.Mode != runs.ModeCopy { // findRun says so
		return err
	}
	name := ""
	if run != nil {
		name = run.RunID
	}
	return runs.EndPredecessors(ctx, c.log, name, c.incarnation, c.s, c.t)
}

// alive opens those again that have been lost. An error that is worth another try may come of it.
func (c *copySessions) alive(ctx context.Context) (err error) {
	if c.s == nil || c.s.Ping(ctx) != nil {
		if c.s != nil {
			dbconn.CloseNow(c.s)
		}
		if c.s, err = pg.Connect(ctx, c.tagged[0], pg.WithName("control")); err != nil {
			c.s = nil
			return fmt.Errorf("source: %w", err)
		}
	}
	if c.t != nil && c.t.Ping(ctx) == nil {
		return nil
	}
	if c.t != nil {
		dbconn.CloseNow(c.t)
	}
	if c.t, err = pg.Connect(ctx, c.tagged[1], pg.WithName("control")); err != nil {
		c.t = nil
		return fmt.Errorf("target: %w", err)
	}
	if err := runs.LeadSoon(ctx, c.t, c.log); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return nil
}

// takeBack removes what a refused beginning made on the target.
func (c *copySessions) takeBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbconn.CloseTimeout)
	defer cancel()
	if err := c.alive(ctx); err != nil {
		return err
	}
	return journal.Uninstall(ctx, c.t)
}

func (c *copySessions) close() {
	for _, conn := range []*pgx.Conn{c.s, c.t} {
		if conn != nil {
			dbconn.CloseNow(conn)
		}
	}
	c.s, c.t = nil, nil
}

// stopped says of an error that came of the end of ctx that someone asked for that, and what stays.
func stopped(ctx context.Context, err error, what string) error {
	if ctx.Err() == nil {
		return err
	}
	return exit.NotComplete(&stoppedError{what: what, cause: errors.Join(err, ctx.Err())})
}

type stoppedError struct {
	what  string
	cause error
}

func (e *stoppedError) Error() string { return "stopped as asked: " + e.what }
func (e *stoppedError) Unwrap() error { return e.cause }
