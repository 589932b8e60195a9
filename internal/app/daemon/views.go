package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/matviews"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// newViews keeps the materialised views.
func (d *daemon) newViews() *matviews.Keeper {
	m := matviews.New(obs.Component(d.core.log, "materialised views"))
	m.Source = d.sessions.link(d.core.cfg.Source, "materialised views", pg.WithLockTimeout(d.core.cfg.SourceLockTimeout))
	m.OnSource, m.OnSide, m.Views, m.Path = d.core.migration.Task.ConnectSource, d.core.migration.Task.ConnectTarget, d.core.migration.Schema.MatViews, d.core.migration.Schema.SearchPath
	m.May, m.CaughtUp = d.mayFill, d.caughtUp
	m.Arming = func() bool { return d.core.coordinator.Status().State.Step == machine.Arming }
	return m
}

// mayFill reports whether views of the target may be filled: the stream has caught up, and no
// application reads them there. In an attempt that is past arming that is done only for a watcher
// that waits for it, so that no lock is in the way of the decision.
func (d *daemon) mayFill(asked bool) bool {
	c := d.core.coordinator.Status()
	if c.Active != machine.SideSource || !d.core.migration.Task.Reached(journal.PhaseIndexed) {
		return false
	}
	switch c.State.Step {
	case machine.Following, machine.Idle, machine.Arming:
		return true
	case machine.Pausing, machine.Fenced, machine.Draining:
		return asked
	}
	return false
}

// caughtUp waits until the target has what the source has now.
func (d *daemon) caughtUp(ctx context.Context) error {
	var text string
	err := d.watches.views.Source.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&text)
	})
	if err != nil {
		return fmt.Errorf("ask the source for its end of WAL: %w", err)
	}
	end, err := pg.ParseLSN(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, viewPatience)
	defer cancel()
	for range retry.Poll(ctx, dbconn.LockPoll) {
		s, err := d.core.stream.Status()
		if err == nil && s.AppliedLSN >= end {
			return nil
		}
	}
	return fmt.Errorf("the stream of changes has not come to %s, where the source is: %w", end, ctx.Err())
}

// viewPatience is how long the comparison of a view waits for the stream.
const viewPatience = 10 * time.Second
