package slot

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Blocker is a session, or a prepared transaction, that stands in the way.
type Blocker struct {
	PID         int32 // 0 for a prepared transaction
	User        string
	Application string // for a prepared transaction its identifier
	State       string // as in pg_stat_activity, or "prepared"
	Open        time.Duration
}

// String names the blocker for an operator; it contains no query text, which could contain data.
func (b Blocker) String() string {
	if b.PID == 0 {
		return fmt.Sprintf("prepared transaction %q of %s, open for %s", b.Application, b.User, b.Open.Round(time.Second))
	}
	return fmt.Sprintf("pid %d (%s, user %s, application %q), transaction open for %s", b.PID, b.State, b.User, b.Application, b.Open.Round(time.Second))
}

// EndSQL is the statement that ends what stands in the way, and takes its transaction back.
func (b Blocker) EndSQL() string {
	if b.PID == 0 {
		return "ROLLBACK PREPARED " + pg.QuoteLiteral(b.Application)
	}
	return fmt.Sprintf("SELECT pg_catalog.pg_terminate_backend(%d)", b.PID)
}

func describe(blockers []Blocker) string {
	words := make([]string, len(blockers))
	for i, b := range blockers {
		words[i] = b.String()
	}
	return strings.Join(words, "; ")
}

// Blockers returns the transactions that the creation of a logical slot has to
// wait for: all that have a transaction number, oldest first. Sessions of other
// roles show their details only to members of pg_monitor.
func Blockers(ctx context.Context, conn *pgx.Conn) ([]Blocker, error) {
	rows, err := conn.Query(ctx, `SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(state, backend_type, ''),
			coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - xact_start), 0)
		FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
		UNION ALL SELECT 0, owner::text, gid, 'prepared', pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - prepared)
		FROM pg_catalog.pg_prepared_xacts
		ORDER BY 5 DESC`)
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", err)
	}
	return collectBlockers(rows)
}

func collectBlockers(rows pgx.Rows) ([]Blocker, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Blocker, error) {
		var b Blocker
		var seconds float64
		err := row.Scan(&b.PID, &b.User, &b.Application, &b.State, &seconds)
		b.Open = time.Duration(seconds * float64(time.Second))
		return b, err
	})
}

// describeLocked names, for tables whose lock was not to be had, who holds locks
// on them that are in the way of SHARE UPDATE EXCLUSIVE.
func describeLocked(ctx context.Context, conn *pgx.Conn, locked map[pg.Name]error) error {
	var parts []string
	for _, t := range slices.SortedFunc(maps.Keys(locked), func(a, b pg.Name) int { return strings.Compare(a.String(), b.String()) }) {
		rows, err := conn.Query(ctx, `SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, a.backend_type, ''),
				coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start), 0)
			FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
			JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE l.locktype = 'relation' AND l.granted AND n.nspname = $1 AND c.relname = $2
			AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
			AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`, t.Schema, t.Name)
		var holders []Blocker
		if err == nil {
			holders, err = collectBlockers(rows)
		}
		switch {
		case err != nil:
			parts = append(parts, t.Display()+" (who holds it cannot be read: "+err.Error()+")")
		case len(holders) == 0:
			parts = append(parts, t.Display()+" (let go meanwhile: try again)")
		default:
			parts = append(parts, t.Display()+" by "+describe(holders))
		}
	}
	return fmt.Errorf("locked: %s; wait for these to end, or end them", strings.Join(parts, "; "))
}
