package server

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

const (
	// locksPerTable is how many locks a transaction over all tables takes for each:
	// the table and, on the average, an index or a sequence.
	locksPerTable = 2
	// lockSlack is by how much a lock table may be overdrawn, in per cent: what the
	// server keeps of shared memory for what it did not plan for serves it too.
	lockSlack = 10
	// spareConnections is by how much a remedy raises the target's connections beyond those
	// of the applications: Crossfade's own, and some for people.
	spareConnections = 20
)

// usage is how much of a server's limited things is taken.
type usage struct {
	Slots, MaxSlots     int
	Senders, MaxSenders int
	Locks               int // what the lock table holds
	Sessions            int // that max_locks_per_transaction is multiplied by
	Clients             int // sessions in the database
	MaxConnections      int
	FreeConnections     int
	OwnSlot             bool // a slot of ours exists already
}

func readUsage(ctx context.Context, conn *pgx.Conn) (usage, error) {
	return inquiry.One[usage](ctx, conn, "limits", `
		SELECT (SELECT count(*) FROM pg_replication_slots)::int, current_setting('max_replication_slots')::int,
			(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender')::int, current_setting('max_wal_senders')::int,
			current_setting('max_locks_per_transaction')::int
				* (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int),
			current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int,
			(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()
				AND application_name NOT LIKE 'crossfade%')::int, current_setting('max_connections')::int,
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
				- (SELECT count(*) FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend' AND usesysid IS NOT NULL)::int,
			EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database() AND slot_name LIKE 'crossfade\_%')`)
}

// Capacity compares what a migration takes of slots, walsenders, locks and connections with what is
// free.
func Capacity(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, err := readUsage(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	target, err := readUsage(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	tables, err := inquiry.One[struct{ Count int }](ctx, p.Source, "number of tables",
		`SELECT count(*)::int`+inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p', 'v', 'm')`, p.Options.Scope.Relations())
	if err != nil {
		return nil, err
	}
	found := lockFindings(p.Options.Mode, source, target, tables.Count)
	if p.Options.Mode == inquiry.Run {
		found = append(found, capacityFindings(source, target)...)
	}
	return found, nil
}

// lockFindings compares the tables and views with what fits into the lock tables.
// pg_dump locks each on the source, in one transaction. A cutover locks each
// table on both sides, with more on the target that hangs on it.
func lockFindings(mode inquiry.Mode, source, target usage, tables int) []answer.Finding {
	var found []answer.Finding
	add := func(severity answer.Severity, side answer.Side, u usage, detail string) {
		enough := tables*locksPerTable/max(u.Sessions, 1) + 1
		sql := fmt.Sprintf("ALTER SYSTEM SET max_locks_per_transaction = %d", enough)
		found = append(found, answer.Finding{Code: "lock_table_small", Severity: severity, Object: "max_locks_per_transaction", Detail: detail, On: side, SQL: sql,
			Remedy: fmt.Sprintf("%s on the %s, and restart it (a managed server: through its own settings; Neon: a larger compute)", sql, side)})
	}
	if tables > source.Locks+source.Locks*lockSlack/100 {
		add(answer.Blocker, answer.Source, source, fmt.Sprintf("pg_dump locks %d tables and views at once; the source has room for %d locks", tables, source.Locks))
	} else if mode == inquiry.Run && tables*locksPerTable > source.Locks {
		add(answer.Warning, answer.Source, source, fmt.Sprintf("the cutover locks up to %d tables at once, with what hangs on them; the source has room for %d locks", tables, source.Locks))
	}
	if mode == inquiry.Run && tables*locksPerTable > target.Locks {
		add(answer.Warning, answer.Target, target, fmt.Sprintf("the cutover locks up to %d tables at once, with what hangs on them; the target has room for %d locks", tables, target.Locks))
	}
	return found
}

func capacityFindings(source, target usage) []answer.Finding {
	var found []answer.Finding
	if !source.OwnSlot {
		if source.Slots >= source.MaxSlots {
			found = append(found, noSlot(answer.Source, source, ""))
		}
		if source.Senders >= source.MaxSenders {
			found = append(found, noWALSender(source))
		}
	}
	if target.FreeConnections < source.Clients {
		sql := fmt.Sprintf("ALTER SYSTEM SET max_connections = %d", target.MaxConnections+source.Clients-target.FreeConnections+spareConnections)
		found = append(found, answer.Finding{
			Code: "target_connections", Severity: answer.Warning, Object: "max_connections",
			Detail: fmt.Sprintf("the source's database has %d sessions, the target has %d connections free", source.Clients, target.FreeConnections),
			Remedy: sql + " on the target, then restart it (Neon: a larger compute), before the cutover",
			On:     answer.Target, SQL: sql,
		})
	}
	return found
}

func noWALSender(u usage) answer.Finding {
	sql := fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d", u.MaxSenders+spare)
	return answer.Finding{
		Code: "wal_senders_full", Severity: answer.Blocker, Object: "max_wal_senders",
		Detail: fmt.Sprintf("all %d walsenders of the source are taken", u.MaxSenders),
		Remedy: sql + " on the source, then restart it; or end a replication connection that nobody needs",
		On:     answer.Source, SQL: sql,
	}
}

// spare is by how much a remedy raises a limit: what a migration takes, and one for a session that
// connects meanwhile.
const spare = 3

func noSlot(side answer.Side, u usage, why string) answer.Finding {
	sql := fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d", u.MaxSlots+spare)
	return answer.Finding{
		Code: "replication_slots_full", Severity: answer.Blocker, Object: "max_replication_slots",
		Detail: fmt.Sprintf("all %d replication slots of the %s are taken%s", u.MaxSlots, side, why),
		Remedy: fmt.Sprintf("%s on the %s, then restart it; or drop a slot that nobody reads", sql, side),
		On:     side, SQL: sql,
	}
}
