package dbconn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
)

// ShownStatement is how many characters of a statement a message shows.
const ShownStatement = 120

// mostHolders is how many holders of a lock a message names.
const mostHolders = 3

// Process is a server process as a message names it.
type Process struct {
	PID                           int32
	Kind, User, Application, From string // Kind is that of pg_stat_activity.backend_type
	State, Query                  string
	Age                           float64 // of its transaction, in seconds; -1 without one, or where that is hidden
	Proxied                       bool
}

// processColumns are the columns of a process, from a row of pg_stat_activity.
const processColumns = `%[1]s.pid, coalesce(%[1]s.backend_type, ''), coalesce(%[1]s.usename, ''), coalesce(%[1]s.application_name, ''), coalesce(pg_catalog.host(%[1]s.client_addr), 'local'),
	coalesce(%[1]s.state, ''), coalesce(%[1]s.query, ''), coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - %[1]s.xact_start)::float8, -1)`

func (p *Process) fields() []any {
	return []any{&p.PID, &p.Kind, &p.User, &p.Application, &p.From, &p.State, &p.Query, &p.Age}
}

func (p Process) String() string {
	who := fmt.Sprintf("process %d", p.PID)
	if p.PID == 0 {
		return "a prepared transaction"
	}
	if p.User != "" {
		who += " of " + p.User
	}
	var more []string
	if p.Application != "" {
		more = append(more, fmt.Sprintf("application %q", p.Application))
	}
	switch {
	case p.Kind != "" && p.Kind != "client backend":
		more = append(more, p.Kind)
	case p.Proxied:
		more = append(more, "through the proxy")
	default:
		more = append(more, "from "+p.From)
	}
	return who + " (" + strings.Join(more, ", ") + "), " + p.doing()
}

// doing says what state its transaction is in, and details.
func (p Process) doing() string {
	words := "in a transaction"
	switch {
	case strings.Contains(p.State, "aborted"):
		words = "in an aborted transaction, which can only be rolled back,"
	case p.State == "idle":
		words = "between two transactions"
	}
	return strings.TrimSpace(words + " " + p.Details())
}

// Details says how long its transaction is open, and what it runs or ran last.
func (p Process) Details() string {
	var words []string
	if p.Age >= 0 {
		d := time.Duration(p.Age * float64(time.Second))
		unit := 100 * time.Millisecond
		if d >= 10*time.Second {
			unit = time.Second
		}
		words = append(words, "open for "+d.Round(unit).String())
	}
	if p.Query != "" {
		what := "last statement: "
		if p.State == "active" {
			what = "statement: "
		}
		words = append(words, what+sqltext.Shape(p.Query, ShownStatement))
	}
	return strings.Join(words, ", ")
}

// Wait is what one server process waits for.
type Wait struct {
	Process
	Lock    string // the lock, such as "table public.a"; "" where it waits for none
	Holders []Process
}

func (w Wait) String() string {
	list := lists.Map(w.Holders[:min(len(w.Holders), mostHolders)], Process.String)
	return w.Lock + " is locked by " + strings.Join(list, " and ")
}

// ARow is the lock of a row whose table the server does not report: a session that waits to change
// a row has a lock on the row's place, and one that waits to add a row next to it has none.
const ARow = "a row"

// LockWaits tells what server processes do, and what locks they wait for, by their pid. A process
// that began to wait after its activity was read counts as not waiting: the statement that was read
// is an earlier one. Of a process whose activity our role may not see, only the lock is told.
func LockWaits(ctx context.Context, conn *pgx.Conn, pids []int32) (map[int32]Wait, error) {
	rows, _ := conn.Query(ctx, fmt.Sprintf(`SELECT `+fmt.Sprintf(processColumns, "a")+`,
			CASE WHEN l.locktype IN ('relation', 'extend', 'page', 'tuple') THEN CASE WHEN c.oid IS NULL THEN 'a table' ELSE CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'i' THEN 'index ' WHEN 'm' THEN 'materialized view ' ELSE 'table ' END || pg_catalog.format('%%I.%%I', n.nspname, c.relname) END
				WHEN l.locktype = 'transactionid' THEN CASE WHEN c.oid IS NULL THEN '`+ARow+`' ELSE pg_catalog.format('a row of table %%I.%%I', n.nspname, c.relname) END WHEN l.locktype = 'advisory' THEN 'an advisory lock' ELSE coalesce('a lock (' || l.locktype || ')', '') END,
			b.pid IS NOT NULL, coalesce(b.pid, 0), %s
		FROM pg_catalog.pg_stat_activity a
		LEFT JOIN LATERAL pg_catalog.unnest(CASE WHEN a.state IS NULL OR a.wait_event_type = 'Lock' THEN pg_catalog.pg_blocking_pids(a.pid) END) AS b(pid) ON true
		LEFT JOIN pg_catalog.pg_stat_activity h ON h.pid = b.pid
		LEFT JOIN LATERAL (SELECT l.locktype, l.relation FROM pg_catalog.pg_locks l WHERE b.pid IS NOT NULL AND l.pid = a.pid AND NOT l.granted LIMIT 1) l ON true
		LEFT JOIN LATERAL (SELECT t.relation FROM pg_catalog.pg_locks t WHERE l.locktype = 'transactionid' AND t.pid = a.pid AND t.locktype = 'tuple' AND t.granted LIMIT 1) t ON true
		LEFT JOIN pg_catalog.pg_class c ON c.oid = coalesce(l.relation, t.relation)
		LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE a.pid = ANY ($1)`, strings.Replace(fmt.Sprintf(processColumns, "h"), "h.pid, ", "", 1)), pids)
	found := map[int32]Wait{}
	var w Wait
	var h Process
	var waiting bool
	_, err := pgx.ForEachRow(rows, append(append(w.fields(), &w.Lock, &waiting), h.fields()...), func() error {
		w.Holders = found[w.PID].Holders
		if waiting {
			w.Holders = append(w.Holders, h)
		}
		found[w.PID] = w
		return nil
	})
	return found, err
}

// OpenTransactions are the transactions of others in this database, the longest first.
func OpenTransactions(ctx context.Context, conn *pgx.Conn, proxied []int32, most int) ([]Process, error) {
	found, err := pg.Select(ctx, conn, (*Process).fields, `SELECT `+fmt.Sprintf(processColumns, "a")+` FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend' AND a.xact_start IS NOT NULL
		  AND a.pid <> pg_catalog.pg_backend_pid() AND a.application_name NOT LIKE 'crossfade%'
		ORDER BY a.xact_start LIMIT $1`, most)
	for i := range found {
		found[i].Proxied = slices.Contains(proxied, found[i].PID)
	}
	return found, err
}

// TableHolders are the transactions that hold locks of writers on tables or their partitions, and
// any lock on those that are exclusive, the longest first.
func TableHolders(ctx context.Context, conn *pgx.Conn, tables, exclusive []string) ([]Process, error) {
	return pg.Select(ctx, conn, (*Process).fields, `SELECT `+fmt.Sprintf(processColumns, "a")+` FROM pg_catalog.pg_stat_activity a
		WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.pid IN (
			WITH RECURSIVE t(oid, exclusive) AS (SELECT pg_catalog.to_regclass(n)::oid, n = ANY (coalesce($3::text[], '{}')) FROM pg_catalog.unnest($1::text[]) n
				UNION SELECT i.inhrelid, t.exclusive FROM pg_catalog.pg_inherits i JOIN t ON t.oid = i.inhparent)
			SELECT l.pid FROM pg_catalog.pg_locks l JOIN t ON t.oid = l.relation
			WHERE l.granted AND (t.exclusive OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
			  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
		ORDER BY a.xact_start LIMIT $2`, tables, mostHolders, exclusive)
}

// Writer is a transaction past the proxy that holds a table against the fence.
type Writer struct {
	Process
	Table, Began string
}

// WritersPast lists the transactions of others than the proxy's sessions that hold a lock
// on a fenced table with which the fence's conflicts.
func WritersPast(ctx context.Context, conn *pgx.Conn, proxied []int32) ([]Writer, error) {
	list, err := pg.Select(ctx, conn, func(w *Writer) []any { return append(w.fields(), &w.Table, &w.Began) },
		`SELECT DISTINCT ON (a.pid) `+fmt.Sprintf(processColumns, "a")+`, pg_catalog.format('%I.%I', n.nspname, c.relname), coalesce(a.xact_start::text, '')
		FROM pg_catalog.pg_locks l
		JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
		JOIN pg_catalog.pg_class c ON c.oid = l.relation
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE l.locktype = 'relation' AND l.granted AND a.datname = pg_catalog.current_database()
		  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
		  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND l.pid <> pg_catalog.pg_backend_pid() AND NOT coalesce(l.pid = ANY ($1), false)
		  AND coalesce(a.application_name, '') NOT LIKE 'crossfade%'
		  AND EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = $2)
		  AND NOT EXISTS (SELECT FROM crossfade.backend k WHERE k.pid = a.pid AND k.backend_start = a.backend_start) -- they are expelled
		ORDER BY a.pid, c.oid`, proxied, journal.FenceTrigger)
	return list, pg.Wrap(err, "look for writers past the proxy")
}
