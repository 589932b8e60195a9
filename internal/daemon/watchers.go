package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/control"
	"crossfade/internal/pg"
)

// watchers are all questions that are asked while the run follows, in the order of
// the status.
func (d *daemon) watchers() []watcher {
	return []watcher{
		{name: "one database", ask: askOneDatabase},
		{name: "tables", fenced: true, ask: d.cover.ask},
		{name: "materialised views", fenced: true, ask: d.views.ask},
		{name: "jobs", fenced: true, ask: d.migration.askJobs},
		{name: "strangers at the target", fenced: true, early: true, ask: d.strangers.ask},
		{name: "large objects", fenced: true, ask: askLargeObjects},
		{name: "bytes of large objects", fenced: true, every: 5, rest: restScan, ask: asking(findLargeObjectBytes, scanForStatus),
			askArming: asking(findLargeObjectBytes, d.scanArming), askFenced: asking(findLargeObjectBytes, d.scanFenced)},
		{name: "rows of extensions", fenced: true, every: 5, rest: restScan, ask: asking(d.migration.findExtensionRows, scanForStatus),
			askArming: asking(d.migration.findExtensionRows, d.scanArming), askFenced: asking(d.migration.findExtensionRows, d.scanFenced)},
		{name: "unlogged tables", every: 5, rest: restScan, ask: askUnlogged},
		{name: "foreign keys", rest: func(time.Duration) time.Duration { return orphanRest }, ask: d.migration.askForeignKeys},
		{name: "publication", fenced: true, early: true, ask: d.members.ask},
		{name: "fence", fenced: true, ask: askFence},
		{name: "logins", every: 5, ask: d.users.ask},
		{name: "definitions", fenced: true, apart: true, every: 2, rest: func(time.Duration) time.Duration { return d.definitions.rest() }, ask: d.definitions.ask, askFenced: d.definitions.askFenced},
	}
}

// askOneDatabase finds out whether a name of one side has come to lead to the other since the
// run began, as an entry of DNS or a list of hosts may.
func askOneDatabase(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
	err := pg.RefuseOneDatabase(ctx, source, target)
	var one *pg.OneDatabaseError
	if !errors.As(err, &one) {
		return nil, err
	}
	detail, remedy := one.Parts()
	return []notice{{Blocker: control.Blocker{Code: "one_database", Detail: detail, Remedy: remedy}}}, nil
}

// confirm asks the watchers for a cutover.
func (d *daemon) confirm(ctx context.Context, fenced bool) error {
	return d.watchlist.confirm(ctx, fenced)
}

// ask is check as a watcher's question. What has left the publication is the members'.
func (c *coverage) ask(ctx context.Context, source, _ *pgx.Conn) ([]notice, error) {
	err := c.look(ctx, source, false)
	var uncovered *UncoveredError
	if errors.As(err, &uncovered) {
		return []notice{{Blocker: control.Blocker{Code: "not_followed", Detail: err.Error(),
			Remedy: "take the change back, or start over: stop crossfade run, crossfade clean, crossfade run"}}}, nil
	}
	return nil, err
}
