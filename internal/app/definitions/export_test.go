package definitions

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
)

// ErrGaveWay says that a comparison gave way to someone who waits.
var ErrGaveWay = errGaveWay

// Another is one of the same databases, whose comparisons the test makes.
func (d *Comparer) Another() *Comparer {
	return New(d.Migration, d.Source, d.Target, d.Waiting, zerolog.Nop())
}

// After takes over what another one has compared.
func (d *Comparer) After(o *Comparer) { d.seen, d.known, d.found = o.seen, true, o.found }

// Restarted forgets what was compared, as a start does.
func (d *Comparer) Restarted() {
	d.rows = rowIdentities{}
	d.known = false
}

// Begin enters a comparison under way; end ends it.
func (d *Comparer) Begin() (end func()) {
	c := &comparison{done: make(chan struct{})}
	d.current = c
	return func() { close(c.done) }
}

// Asked gives the comparisons that are asked for.
func (d *Comparer) Asked() <-chan *comparison { return d.jobs }

// End ends a comparison.
func (c *comparison) End(err error) {
	c.err = err
	close(c.done)
}

// CompareInTime makes one comparison.
func (d *Comparer) CompareInTime(ctx context.Context) error { return d.compareInTime(ctx) }

// Bound is that of the next comparison.
func (d *Comparer) Bound() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bound
}

// SetBound sets it.
func (d *Comparer) SetBound(to time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bound = to
}

// UnfinishedAfterTruncate is what is told when a comparison fails after a table was truncated.
func (d *Comparer) UnfinishedAfterTruncate(ctx context.Context, err error) ([]watch.Notice, error) {
	truncated := d.seen
	truncated[0].Storage = "of other files"
	return d.unfinished(ctx, truncated, err)
}

// Dump dumps the definitions of a side.
func (d *Comparer) Dump(ctx context.Context, dsn pg.DSN, waiting *dbconn.Link) ([]byte, error) {
	return d.dump(ctx, dsn, waiting)
}
