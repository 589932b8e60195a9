package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/journal"
	"crossfade/internal/pg"
)

// shownStatement is how many characters of a statement a message shows.
const shownStatement = 120

// mostHolders is how many holders of a lock a message names.
const mostHolders = 3

// process is a server process as a message names it.
type process struct {
	PID                           int32
	Kind, User, Application, From string // Kind is that of pg_stat_activity.backend_type
	State, Query                  string
	Age                           float64 // of its transaction, in seconds; -1 without one, or where that is hidden
	Proxied                       bool
}

// processColumns are those of process, of a row of pg_stat_activity.
const processColumns = `%[1]s.pid, coalesce(%[1]s.backend_type, ''), coalesce(%[1]s.usename, ''), coalesce(%[1]s.application_name, ''), coalesce(pg_catalog.host(%[1]s.client_addr), 'local'),
	coalesce(%[1]s.state, ''), coalesce(%[1]s.query, ''), coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - %[1]s.xact_start)::float8, -1)`

func (p *process) fields() []any {
	return []any{&p.PID, &p.Kind, &p.User, &p.Application, &p.From, &p.State, &p.Query, &p.Age}
}

func (p process) String() string {
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
func (p process) doing() string {
	words := "in a transaction"
	switch {
	case strings.Contains(p.State, "aborted"):
		words = "in an aborted transaction, of which only the ROLLBACK is left,"
	case p.State == "idle":
		words = "between two transactions"
	}
	return strings.TrimSpace(words + " " + p.details())
}

// details says how long its transaction is open, and what it runs or ran last.
func (p process) details() string {
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
		words = append(words, what+pg.Shape(p.Query, shownStatement))
	}
	return strings.Join(words, ", ")
}

// wait is what one server process waits for.
type wait struct {
	process
	lock    string // the lock, such as "table public.a"; "" where it waits for none
	holders []process
}

func (w wait) String() string {
	var list []string
	for _, h := range w.holders[:min(len(w.holders), mostHolders)] {
		list = append(list, h.String())
	}
	return w.lock + " is locked by " + strings.Join(list, " and ")
}

// lockWaits tells what server processes do, and what locks they wait for, by their pid.
func lockWaits(ctx context.Context, conn *pgx.Conn, pids []int32) (map[int32]wait, error) {
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT `+fmt.Sprintf(processColumns, "a")+`,
			CASE WHEN l.locktype IN ('relation', 'extend', 'page', 'tuple') THEN coalesce(CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'i' THEN 'index ' WHEN 'm' THEN 'materialized view ' ELSE 'table ' END || pg_catalog.format('%%I.%%I', n.nspname, c.relname), 'a table')
				WHEN l.locktype = 'transactionid' THEN 'a row' WHEN l.locktype = 'advisory' THEN 'an advisory lock' ELSE coalesce('a lock (' || l.locktype || ')', '') END,
			b.pid IS NOT NULL, coalesce(b.pid, 0), %s
		FROM pg_catalog.pg_stat_activity a
		LEFT JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) AS b(pid) ON true
		LEFT JOIN pg_catalog.pg_stat_activity h ON h.pid = b.pid
		LEFT JOIN LATERAL (SELECT l.locktype, l.relation FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND NOT l.granted LIMIT 1) l ON true
		LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
		LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE a.pid = ANY ($1)`, strings.Replace(fmt.Sprintf(processColumns, "h"), "h.pid, ", "", 1)), pids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := map[int32]wait{}
	for rows.Next() {
		var w wait
		var h process
		var waiting bool
		if err := rows.Scan(append(append(w.fields(), &w.lock, &waiting), h.fields()...)...); err != nil {
			return nil, err
		}
		w.holders = found[w.PID].holders
		if waiting {
			w.holders = append(w.holders, h)
		}
		found[w.PID] = w
	}
	return found, rows.Err()
}

// explain says what server processes of the source do and wait for, for those whose
// transactions keep a drain from ending.
func (d *daemon) explain(ctx context.Context, pids []int32) map[int32]string {
	words := map[int32]string{}
	err := d.looking.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		found, err := lockWaits(ctx, conn, pids)
		for pid, w := range found {
			words[pid] = w.details()
			if len(w.holders) > 0 && w.lock != "" {
				words[pid] += "; it waits: " + w.String()
			}
		}
		return err
	})
	if err != nil {
		d.log.Debug().Err(err).Msg("sessions that keep the drain from ending could not be looked at")
	}
	return words
}

// roundTrips measures how long each side takes to answer, 0 for one that does not.
func (d *daemon) roundTrips(ctx context.Context) (took [2]time.Duration) {
	for i, l := range []*link{d.looking, d.marking} {
		_ = l.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			if err := conn.Ping(ctx); err != nil { // a session that has just been opened is slower
				return err
			}
			begun := time.Now()
			err := conn.Ping(ctx)
			if err == nil {
				took[i] = max(time.Since(begun), 1)
			}
			return err
		})
	}
	return took
}

// lookout sees whom a session of ours waits for while it asks for a lock.
type lookout struct {
	stop context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	last string
}

// lookOut begins to look. end must be called.
func lookOut(ctx context.Context, l *link, pid int32) *lookout {
	ctx, stop := context.WithCancel(ctx)
	o := &lookout{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		tick := time.NewTicker(guardPoll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			_ = l.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
				found, err := lockWaits(ctx, conn, []int32{pid})
				if w := found[pid]; err == nil && len(w.holders) > 0 && w.lock != "" {
					o.mu.Lock()
					o.last = w.String()
					o.mu.Unlock()
				}
				return err // then the lock's own error has to do
			})
		}
	}()
	return o
}

// looked runs f, and adds to its error about a lock who held it. pid is the server process
// that f asks for locks.
func looked(ctx context.Context, l *link, pid int32, f func() error) error {
	o := lookOut(ctx, l, pid)
	return o.end(f())
}

// looked is looked for the session of a link, within its do. watch is the link to look with.
func (l *link) looked(ctx context.Context, watch *link, f func() error) error {
	if l.asked != l.conn { // once a session: its key data does not say it where a proxy stands before the server
		if err := l.conn.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`).Scan(&l.pid); err != nil {
			return err
		}
		l.asked = l.conn
	}
	return looked(ctx, watch, l.pid, f)
}

// end stops looking, and adds to an error about a lock, or about time that was up, who held
// the lock. It waits for nothing where there is nothing to add.
func (o *lookout) end(err error) error {
	o.stop()
	if !pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	<-o.done
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", o.last, err)
}

// openTransactions are the transactions of others in this database, the longest first.
func openTransactions(ctx context.Context, conn *pgx.Conn, proxied []int32, most int) ([]process, error) {
	rows, err := conn.Query(ctx, `SELECT `+fmt.Sprintf(processColumns, "a")+` FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend' AND a.xact_start IS NOT NULL
		  AND a.pid <> pg_catalog.pg_backend_pid() AND a.application_name NOT LIKE 'crossfade%'
		ORDER BY a.xact_start LIMIT $1`, most)
	if err != nil {
		return nil, err
	}
	return processes(rows, proxied)
}

func processes(rows pgx.Rows, proxied []int32) ([]process, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p process, err error) {
		err = row.Scan(p.fields()...)
		p.Proxied = slices.Contains(proxied, p.PID)
		return p, err
	})
}

// writer is a transaction past the proxy that holds a table against the fence.
type writer struct {
	process
	table, began string
}

// writersPast lists the transactions of others than the proxy's sessions that hold a lock
// on a fenced table with which the fence's conflicts.
func writersPast(ctx context.Context, conn *pgx.Conn, proxied []int32) ([]writer, error) {
	rows, err := conn.Query(ctx, `SELECT DISTINCT ON (a.pid) `+fmt.Sprintf(processColumns, "a")+`, pg_catalog.format('%I.%I', n.nspname, c.relname), coalesce(a.xact_start::text, '')
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
	if err != nil {
		return nil, fmt.Errorf("look for writers past the proxy: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w writer, err error) {
		err = row.Scan(append(w.fields(), &w.table, &w.began)...)
		return w, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for writers past the proxy: %w", err)
	}
	return list, nil
}
