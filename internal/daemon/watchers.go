package daemon

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/control"
)

// watchers are all questions that are asked while the run follows, in the order of
// the status.
func (d *daemon) watchers() []watcher {
	return []watcher{
		{name: "tables", fenced: true, ask: d.cover.ask},
	}
}

// confirm asks the watchers for a cutover.
func (d *daemon) confirm(ctx context.Context, fenced bool) error {
	return d.watchlist.confirm(ctx, fenced)
}

// ask is check as a watcher's question.
func (c *coverage) ask(ctx context.Context, source, _ *pgx.Conn) ([]notice, error) {
	err := c.check(ctx, source)
	var uncovered *UncoveredError
	if errors.As(err, &uncovered) {
		return []notice{{Blocker: control.Blocker{Code: "not_followed", Detail: err.Error(),
			Remedy: "take the change back, or start over: stop crossfade run, crossfade clean, crossfade run"}}}, nil
	}
	return nil, err
}
