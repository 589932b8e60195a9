package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/matviews"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// watchers are all questions that are asked while the run follows, in the order of the status.
func (d *daemon) watchers() []watch.Watcher {
	return []watch.Watcher{
		{Name: "whether source and target are still two databases", Ask: watch.AskOneDatabase},
		{Name: "which tables there are", Fenced: true, Ask: d.watches.cover.Ask},
		{Name: "materialised views", Fenced: true, Ask: d.watches.views.Ask},
		{Name: "jobs of pg_cron", Fenced: true, Ask: d.core.migration.Extras.AskJobs},
		{Name: "who else writes to the target", Fenced: true, Early: true, Ask: d.watches.targetWriters.Ask},
		{Name: "large objects", Fenced: true, Ask: watch.AskLargeObjects},
		{Name: "bytes of large objects", Fenced: true, Every: 5, Rest: watch.RestScan, Ask: watch.WithScan(watch.FindLargeObjectBytes, watch.ScanForStatus),
			AskArming: watch.WithScan(watch.FindLargeObjectBytes, d.scanArming), AskFenced: watch.WithScan(watch.FindLargeObjectBytes, d.scanFenced)},
		{Name: "rows of extensions", Fenced: true, Every: 5, Rest: watch.RestScan, Ask: watch.WithScan(d.core.migration.Extras.FindExtensionRows, watch.ScanForStatus),
			AskArming: watch.WithScan(d.core.migration.Extras.FindExtensionRows, d.scanArming), AskFenced: watch.WithScan(d.core.migration.Extras.FindExtensionRows, d.scanFenced)},
		{Name: "unlogged tables", Every: 5, Rest: watch.RestScan, Ask: watch.AskUnlogged},
		{Name: "foreign keys", Rest: func(time.Duration) time.Duration { return migration.OrphanRest }, Ask: d.core.migration.Keys.AskForeignKeys},
		{Name: "the publication on the source", Fenced: true, Early: true, Ask: d.watches.members.Ask},
		{Name: "the fence of the source", Fenced: true, Ask: watch.AskFence},
		{Name: "roles of the applications", Every: 5, Ask: d.core.users.Ask},
		{Name: "definitions of both sides", Fenced: true, Apart: true, Every: 2, Rest: func(time.Duration) time.Duration { return d.watches.definitions.Rest() }, Ask: d.watches.definitions.Ask, AskFenced: d.watches.definitions.AskFenced},
	}
}

// scanArming leaves half of the pause, without the drain, for a scan under the fence.
func (d *daemon) scanArming() watch.Scan {
	of := d.limits()
	return watch.Scan{Limit: watch.ArmingScanPatience, Armed: true, PauseBudget: (of.MaxPause - of.DrainTimeout) / 2, Of: of}
}

// scanFenced has what is left of the pause.
func (d *daemon) scanFenced() watch.Scan {
	of := d.limits()
	left := of.MaxPause - watch.PauseRest
	if closed := d.core.gateClosed.Load(); closed != nil {
		left -= time.Since(*closed)
	}
	return watch.Scan{Limit: max(left, time.Millisecond), Armed: true, Of: of}
}

// limits returns the limits of the attempt under way.
func (d *daemon) limits() machine.Limits {
	if d.core.coordinator == nil { // it is made after the watchers
		return machine.DefaultLimits()
	}
	return d.core.coordinator.Status().State.Limits
}

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
	case machine.Following, machine.Idle, machine.Decided, machine.Arming:
		return true
	case machine.Pausing, machine.Fenced, machine.Draining:
		return asked
	}
	return false
}

// caughtUp waits until the target has what the source has now.
func (d *daemon) caughtUp(ctx context.Context) error {
	text, err := dbconn.Ask(ctx, d.watches.views.Source, func(ctx context.Context, conn *pgx.Conn) (lsn string, err error) {
		err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&lsn)
		return lsn, err
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

// reloadPatience bounds the reading of the settings of users that have come with a new users file.
const reloadPatience = 30 * time.Second

// reload reads the users file again whenever the operator asks for it. Sessions continue; if a file
// cannot be used, the one before remains in force.
func (d *daemon) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.core.cfg.Reload:
		}
		n, err := d.core.users.Read()
		if err != nil {
			d.core.log.Error().Err(err).Msg("users file not taken over; the one before stays in force")
			continue
		}
		d.core.log.Info().Int("users", n).Msg("users file taken over")
		if d.core.coordinator.Status().Active == machine.SideSource {
			continue // every cutover reads the settings of all, first of all
		}
		bounded, cancel := context.WithTimeout(ctx, reloadPatience)
		err = d.sessions.marking.Do(bounded, func(ctx context.Context, conn *pgx.Conn) error { return d.core.users.PinMissing(ctx, conn, d.core.log) })
		cancel()
		if err != nil && ctx.Err() == nil {
			d.core.log.Warn().Err(err).Msg("settings of new users cannot be read from the source; their sessions have the target's own")
		}
	}
}
