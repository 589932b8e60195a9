package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
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
	source, target, err := inquiry.Both(ctx, p, readUsage)
	if err != nil {
		return nil, err
	}
	tables, err := inquiry.Value[int](ctx, p.Source, "number of tables",
		`SELECT count(*)::int`+inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p', 'v', 'm')`, p.Options.Scope.Relations())
	if err != nil {
		return nil, err
	}
	found := lockFindings(p.Options.Mode, source, target, tables)
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

// allowance is how many connections the role of a session may have, by each of the limits that hold
// for it. A limit is negative for none. Sessions of ours count as not used: they are this check's,
// or end before a run begins.
type allowance struct {
	Role                   string
	RoleLimit, RoleUsed    int
	Database               string
	BaseLimit, BaseUsed    int
	ServerLimit, ServerUse int
}

func readAllowance(ctx context.Context, conn *pgx.Conn) (allowance, error) {
	return inquiry.One[allowance](ctx, conn, "limits of connections", `
		WITH taken AS MATERIALIZED (SELECT usesysid, datid, coalesce(backend_type, 'client backend') AS kind FROM pg_stat_activity
			WHERE usesysid IS NOT NULL AND coalesce(backend_type, 'client backend') IN ('client backend', 'walsender') AND coalesce(application_name, '') NOT LIKE 'crossfade%')
		SELECT r.rolname::text, CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END, (SELECT count(*) FROM taken WHERE usesysid = r.oid)::int,
			d.datname::text, CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END, (SELECT count(*) FROM taken WHERE datid = d.oid)::int,
			current_setting('max_connections')::int
				- CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true), '0')::int END,
			(SELECT count(*) FROM taken WHERE kind = 'client backend')::int
		FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()`)
}

// Connections compares what a run takes for itself with the limits of both sides: one that runs out
// of connections fails in the middle, or takes those of the applications.
func Connections(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	var found []answer.Finding
	if p.Options.Resume { // it has to serve, whatever it gets
		return nil, nil
	}
	for _, x := range []struct {
		side answer.Side
		conn *pgx.Conn
		need int
	}{{answer.Source, p.Source, p.Options.Sessions[0]}, {answer.Target, p.Target, p.Options.Sessions[1]}} {
		a, err := readAllowance(ctx, x.conn)
		if err != nil {
			return nil, err
		}
		found = append(found, a.findings(x.side, x.need)...)
	}
	return found, nil
}

func (a allowance) findings(side answer.Side, need int) []answer.Finding {
	var found []answer.Finding
	lacks := func(object, whose string, limit, used int, alter string) {
		if limit < 0 || used+need <= limit {
			return
		}
		f := answer.Finding{Code: "own_connections", Severity: answer.Blocker, Object: object,
			Detail: fmt.Sprintf("a run takes up to %d connections of its own on the %s in addition to those of the applications; %s may have %d, and %d are in use", need, side, whose, limit, used)}
		if alter != "" {
			f.SQL, f.On = fmt.Sprintf("%s CONNECTION LIMIT %d", alter, used+need), side
			f.Remedy = f.SQL + " on the " + string(side)
		} else {
			f.Remedy = fmt.Sprintf("raise max_connections of the %s by %d and restart it (on Neon: a larger compute), or end sessions there", side, used+need-limit)
		}
		found = append(found, f)
	}
	lacks("role "+a.Role, "role "+a.Role, a.RoleLimit, a.RoleUsed, "ALTER ROLE "+pg.QuoteIdent(a.Role))
	lacks("database "+a.Database, "database "+a.Database, a.BaseLimit, a.BaseUsed, "ALTER DATABASE "+pg.QuoteIdent(a.Database))
	lacks("max_connections", "everybody", a.ServerLimit, a.ServerUse, "")
	return found
}

// probe writes some pages to the target, in a transaction that is rolled back: there is no other
// way to learn how much space a server's disk has.
const probe = `CREATE TABLE crossfade_probe.room AS SELECT repeat('x', 1000) AS pages FROM generate_series(1, 100)`

// DiskSpace asks whether the target can take rows now, and whether a Neon project's limit
// leaves room for what the source has.
func DiskSpace(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	err := probeDiskSpace(ctx, p)
	switch {
	case pg.IsCode(err, pg.CodeDiskFull):
		return []answer.Finding{{
			Code: "target_full", Severity: answer.Blocker, Object: "target",
			Detail: fullDetail(err),
			Remedy: "raise the limit of the project, or make room on the server's disk",
		}}, nil
	case err != nil && !pg.IsCode(err, pg.CodeInsufficientPrivilege): // another check says so
		return nil, fmt.Errorf("try to write to the target: %w", err)
	}
	return sizeLimit(ctx, p)
}

func fullDetail(err error) string {
	return "takes no more rows: " + strings.TrimSuffix(strings.TrimPrefix(err.Error(), "ERROR: "), " (SQLSTATE "+pg.CodeDiskFull+")")
}

func probeDiskSpace(ctx context.Context, p *inquiry.Pair) error {
	tx, err := p.Target.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{`CREATE SCHEMA crossfade_probe`, probe} {
		if _, err := tx.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

// sizeLimit compares with neon.max_cluster_size, which a project's compute has.
func sizeLimit(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	target, err := inquiry.One[struct{ Limit, Used int64 }](ctx, p.Target, "size limit of the target", `
		SELECT CASE WHEN s !~ '^-|^0|^$' THEN pg_size_bytes(s) ELSE 0 END,
			coalesce((SELECT sum(pg_database_size(oid)) FROM pg_database WHERE s <> '' AND has_database_privilege(oid, 'CONNECT')), 0)::bigint
		FROM coalesce(current_setting('neon.max_cluster_size', true), '') s`)
	if err != nil || target.Limit == 0 {
		return nil, err
	}
	source, err := inquiry.Value[int64](ctx, p.Source, "size of the source", `SELECT pg_database_size(current_database())`)
	if err != nil || target.Used+source <= target.Limit {
		return nil, err
	}
	mb := func(n int64) int64 { return n >> 20 }
	return []answer.Finding{{
		Code: "project_size_limit", Severity: answer.Warning, Object: "target",
		Detail: fmt.Sprintf("the project may take %d MB and has %d MB; the source takes %d MB", mb(target.Limit), mb(target.Used), mb(source)),
		Remedy: "raise the limit of the project, or the copy may stop at it",
	}}, nil
}
