package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/internal/base/sqltext"
	"crossfade/replicate/apply"
)

// contentionWatchTime is how long one check for a wait of the stream takes: longer than its pause
// between two tries.
const contentionWatchTime = 500 * time.Millisecond

// contention is whom the stream was last seen waiting for on the target.
type contention struct {
	since time.Time // of the apply.Contention
	wait  dbconn.Wait
}

// watchContention finds out, for the status, who holds the lock on the target that the stream waits
// for.
func (d *follower) watchContention(ctx context.Context) {
	for range retry.PollFor(ctx, dbconn.LockPoll, contentionWatchTime) {
		s, err := d.core.stream.Status()
		if err != nil || s.Contended == nil {
			return
		}
		var w dbconn.Wait
		asking, cancel := context.WithTimeout(ctx, dbconn.AskTimeout)
		err = d.watches.watchlist.Guards[1].Do(asking, func(ctx context.Context, conn *pgx.Conn) (err error) {
			w, err = dbconn.LockWaitOf(s.Contended.PID)(ctx, conn)
			return err
		})
		cancel()
		if err != nil {
			d.core.log.Debug().Err(err).Msg("the holder of a lock that the stream waits for could not be found out")
			return
		}
		if len(w.Holders) > 0 && w.Lock != "" {
			d.mu.Lock()
			d.contention = &contention{since: s.Contended.Since, wait: w}
			d.mu.Unlock()
			return
		}
	}
}

// streamWaits reports a lock on the target that the stream waits for, nil for none.
func (d *follower) streamWaits() *control.Blocker {
	s, err := d.core.stream.Status()
	if err != nil || s.Contended == nil {
		return nil
	}
	d.mu.Lock()
	seen := d.contention
	d.mu.Unlock()
	return contentionBlocker(s.Contended, seen)
}

// contentionBlocker words a wait of the stream. seen is the session that it was last seen waiting
// for, nil for none.
func contentionBlocker(c *apply.Contention, seen *contention) *control.Blocker {
	b := &control.Blocker{Code: "stream_waits", Detail: "the stream of changes has waited for a lock on the target since " + c.Since.UTC().Format("15:04:05 UTC") + ": "}
	if seen == nil || !seen.since.Equal(c.Since) { // it has yet to be seen waiting
		b.Detail += c.Err.Error()
		b.Remedy = "wait: crossfade run finds out who holds it, and names them within seconds"
		return b
	}
	w := seen.wait
	if w.Lock == dbconn.ARow && w.Query != "" { // of a transaction that has yet to end, which says nothing of its table
		w.Lock += " for " + sqltext.Shape(w.Query, dbconn.ShownStatement)
	}
	b.Detail += w.String()
	b.Remedy = w.Remedy("target") + "; the stream goes on by itself"
	return b
}

// explainedEnd adds the remedy to the error with which the migration of `run` stopped.
func (d *core) explainedEnd(err error) error {
	var given *givenUpError
	if errors.As(err, &given) { // it has its own message
		return err
	}
	return d.migration.Explained(err, "start crossfade run again to go on: what was copied stays")
}

// waiting is what the operator has to fix before the migration continues, nil for nothing.
func (d *follower) waiting() error {
	d.mu.Lock()
	stuck := d.stuck
	d.mu.Unlock()
	if stuck != nil {
		return stuck
	}
	if err := d.core.migration.Rows.Waiting(); err != nil {
		return err
	}
	s, err := d.core.stream.Status()
	if err == nil && s.Waiting != nil {
		return s.Waiting
	}
	return nil
}

// stuckAt records why the migration was interrupted, if the operator has to fix the cause.
func (d *follower) stuckAt(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck = nil; pg.IsCode(err, pg.CodeDiskFull) {
		d.stuck = err
	}
}
