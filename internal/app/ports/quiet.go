package ports

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

const (
	// QuietLimit is how long applications are held, in addition to the wait for the locks, for a
	// statement on the target that needs locks for which they leave no moment.
	QuietLimit = 400 * time.Millisecond
	// quietAge is how long the transactions that hold its tables may be open, in seconds: one that
	// is open for longer will hardly end in the time.
	quietAge = 5
)

// Quiet holds the proxy's sessions between two transactions while do runs: Proxy.Quiet. If it is
// nil, no session is held. Sessions that bypass the proxy never are.
type Quiet func(ctx context.Context, limit time.Duration, do func(context.Context) error) error

// run calls do, which takes locks of tables, while applications are held, unless that would not
// help: the transactions that hold the tables are not about to end.
func (q Quiet) run(ctx context.Context, holders func() []dbconn.Process, do func(context.Context) error) (held bool, err error) {
	if q == nil || !soonGone(holders()) {
		return false, do(ctx)
	}
	return true, q(ctx, QuietLimit, do)
}

// soonGone reports whether transactions are about to end, as far as their age tells.
func soonGone(holders []dbconn.Process) bool {
	return !slices.ContainsFunc(holders, func(p dbconn.Process) bool { return p.Age > quietAge })
}

// Patience is the bound for statements that lock tables on the active side. If applications are
// held for one, the hold and the wait for the lock share the bound, so that no application waits
// longer than lockTimeout (C13). The table's writers are looked up over a link that the statement
// does not use.
func (q Quiet) Patience(side *dbconn.Link, lockTimeout time.Duration) journal.Patience {
	how := journal.Patience{LockTimeout: lockTimeout}
	if q == nil {
		return how
	}
	how.Quiet = func(ctx context.Context, table pg.Name, do func(context.Context, time.Duration) error) error {
		if !soonGone(writersOf(ctx, side, table)) {
			return do(ctx, lockTimeout)
		}
		half := lockTimeout / 2
		return q(ctx, half, func(ctx context.Context) error { return do(ctx, half) })
	}
	return how
}

// writersOf are the transactions that hold tables against a statement that waits for their locks,
// the longest first; none where that cannot be asked.
func writersOf(ctx context.Context, side *dbconn.Link, tables ...pg.Name) []dbconn.Process {
	return holdersOf(ctx, side, tables, nil)
}

// holdersOf are those, and the readers of tables that are exclusive.
func holdersOf(ctx context.Context, side *dbconn.Link, tables, exclusive []pg.Name) (found []dbconn.Process) {
	names, alone := lists.Map(tables, pg.Name.String), lists.Map(exclusive, pg.Name.String)
	_ = side.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		found, err = dbconn.TableHolders(ctx, conn, names, alone)
		return err
	})
	return found
}
