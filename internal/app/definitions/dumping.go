package definitions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/schema/archive"
)

// errGaveWay says that pg_dump was stopped for another session.
var errGaveWay = errors.New("another session waited for a lock of pg_dump, which was stopped")

// dump runs pg_dump on a side and stops it as soon as someone waits for one of its locks: an
// application on the source (C13), what is followed on the target. waiting is a session there.
func (d *Comparer) dump(ctx context.Context, side pg.DSN, waiting *dbconn.Link) ([]byte, error) {
	cfg := d.Migration.Schema.Dumping(side, "")
	cfg.Name = "dump " + rand.Text()[:8]
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	name := "crossfade " + cfg.Name
	out := dbconn.WatchLock(ctx, waiting, dbconn.SideNames[slices.Index(d.Waiting[:], waiting)], func(ctx context.Context, conn *pgx.Conn) (dbconn.Wait, error) { return dumpWait(ctx, conn, name) })
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for range retry.Every(ctx, dbconn.LockPoll) {
			if waitedFor(ctx, waiting, name) {
				stop(errGaveWay)
				return
			}
		}
	}()
	archive, err := archive.Dump(ctx, cfg)
	out.Stop()
	// It has no code for us: at a lock it ends with the statement that did not get it.
	if err != nil && (errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "LOCK TABLE")) {
		err = fmt.Errorf("%w (%w)", err, context.DeadlineExceeded) // the next round tries again
		if last := out.SeenOf(err); last != nil {
			err = &dbconn.LockedError{Side: last.Side, Wait: last.Last, Err: err}
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errGaveWay) {
		err = fmt.Errorf("%w: %w", cause, context.DeadlineExceeded) // the next round tries again
	}
	stop(nil)
	<-watched
	return archive, err
}

// waitedFor reports whether someone waits for a session that does what name says.
func waitedFor(ctx context.Context, waiting *dbconn.Link, name string) bool {
	waits := false
	_ = waiting.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error { // the next comparison asks again
		return conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a, pg_catalog.pg_stat_activity d
			WHERE pg_catalog.strpos(d.application_name, $1) = 1 AND a.wait_event_type = 'Lock' AND a.backend_type <> 'autovacuum worker'
				AND d.pid = ANY (pg_catalog.pg_blocking_pids(a.pid)))`, name).Scan(&waits)
	})
	return waits
}

// dumpWait tells what the pg_dump waits for whose sessions are called so.
func dumpWait(ctx context.Context, conn *pgx.Conn, name string) (w dbconn.Wait, err error) {
	pids, err := pg.Rows(ctx, conn, pgx.RowTo[int32], `SELECT a.pid FROM pg_catalog.pg_stat_activity a WHERE pg_catalog.strpos(a.application_name, $1) = 1 AND a.wait_event_type = 'Lock'`, name)
	if err != nil || len(pids) == 0 {
		return w, err
	}
	return dbconn.LockWaitOf(pids[0])(ctx, conn)
}
