package daemon

import (
	"context"
	"time"

	"crossfade/cutover/machine"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/watch"
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

// confirm asks the watchers for a cutover.
func (d *daemon) confirm(ctx context.Context, fenced bool) error {
	return d.watches.watchlist.Confirm(ctx, fenced)
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
