package slot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// ErrExists says that a slot of that name is there already. Its snapshot is
// gone, so that Create cannot hand it out again.
var ErrExists = errors.New("replication slot exists")

const (
	// DefaultWait bounds the creation of a slot, which waits for every
	// transaction that is open when it starts.
	DefaultWait = 5 * time.Minute
	// blockersEvery is how often the blockers are looked up.
	blockersEvery = 2 * time.Second
	// cleanupTimeout bounds what is done after a creation that did not come
	// about: ending the walsender and looking for a slot that it left.
	cleanupTimeout = 20 * time.Second
)

// Config says what Create makes, and over which connections.
type Config struct {
	Name        string
	Temporary   bool                                              // the server drops it with the connection: Release
	Wait        time.Duration                                     // DefaultWait if 0
	Replication func(ctx context.Context) (*pgconn.PgConn, error) // opens a session with replication=database
	Connect     func(ctx context.Context) (*pgx.Conn, error)      // opens a plain session at the same database

	// OnBlocked, if set, is called every two seconds while the creation waits,
	// with those it waits for, on a goroutine of Create.
	OnBlocked func([]Blocker)
}

// Validate fills defaults in and refuses what is missing.
func (c *Config) Validate() error {
	c.Wait = cmp.Or(c.Wait, DefaultWait)
	if c.Replication == nil || c.Connect == nil {
		return errors.New("slot: no way to connect given")
	}
	if c.Wait < 0 {
		return errors.New("slot: negative wait")
	}
	return validName(c.Name)
}

// validName keeps to what PostgreSQL allows in a slot's name.
func validName(name string) error {
	if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return fmt.Errorf("slot: name %q may have 1 to 63 lower-case letters, digits and underscores", name)
	}
	return nil
}

// BlockedError says that the slot could not be made in time because of open transactions.
type BlockedError struct {
	Name     string
	Waited   time.Duration
	Blockers []Blocker
}

func (e *BlockedError) Error() string {
	who := "nobody is in the way any more: try again"
	if len(e.Blockers) > 0 {
		who = "it waits for open transactions: " + describe(e.Blockers) + "; let these end, or end them, and try again"
	}
	return fmt.Sprintf("create slot %s: not ready after %s; %s", e.Name, e.Waited, who)
}

// Slot is a replication slot just made, with the connection that keeps its exported snapshot valid.
type Slot struct {
	Name            string
	ConsistentPoint pg.LSN // every transaction that commits from here on is in the stream
	Snapshot        string // exported snapshot: sees exactly what commits before

	conn    *pgconn.PgConn
	horizon *snapshot.Holder
}

// Release ends the connections, and with them the slot's own export of the snapshot; sessions that
// imported it before keep it. The slot stays, unless it is a temporary one.
func (s *Slot) Release() {
	if s.conn != nil {
		pg.Close(s.conn, cleanupTimeout)
	}
	s.horizon.Close()
}

// Create makes the logical slot with the plugin pgoutput and exports its snapshot. The caller calls
// Release when the snapshot has been imported. After an error no slot is left; the error is
// ErrExists when one was there before, a *BlockedError when open transactions did not end in time.
func Create(ctx context.Context, cfg Config) (*Slot, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	plain, err := cfg.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("create slot %s: %w", cfg.Name, err)
	}
	defer func() { _ = plain.Close(context.WithoutCancel(ctx)) }()
	// Looked up first, so that clearing up after a lost connection can never
	// drop a slot that was there before.
	if _, exists, err := Get(ctx, plain, cfg.Name); err != nil {
		return nil, fmt.Errorf("create slot %s: %w", cfg.Name, err)
	} else if exists {
		return nil, fmt.Errorf("create slot %s: %w", cfg.Name, ErrExists)
	}
	// A snapshot of our own keeps each row version that the slot's snapshot can see. There is an
	// instant in which PostgreSQL does not keep them: ReplicationSlotRelease (slot.c) ends the
	// slot's xmin before the walsender counts again among the sessions whose snapshots hold the
	// horizon (PROC_IN_LOGICAL_DECODING, ComputeXidHorizons in procarray.c). A backend that
	// computes the horizon in between removes, from then on, what only the exported snapshot sees:
	// rows would be missing in the copy (ADR 31).
	horizon, err := snapshot.Export(ctx, cfg.Connect)
	if err != nil {
		return nil, fmt.Errorf("create slot %s: keep row versions: %w", cfg.Name, err)
	}
	conn, err := cfg.Replication(ctx)
	if err != nil {
		horizon.Close()
		return nil, fmt.Errorf("create slot %s: %w", cfg.Name, err)
	}
	s, err := create(ctx, cfg, conn, plain)
	if err == nil {
		if err = horizon.Check(ctx); err != nil { // rows may be gone
			err = abandoned(ctx, ctx, cfg, plain, conn, nil, err)
		}
	}
	if err != nil {
		pg.Close(conn, cleanupTimeout)
		horizon.Close()
		return nil, err
	}
	s.horizon = horizon
	return s, nil
}

func create(ctx context.Context, cfg Config, conn *pgconn.PgConn, plain *pgx.Conn) (*Slot, error) {
	type result struct {
		slot *Slot
		err  error
	}
	bounded, cancel := context.WithTimeout(ctx, cfg.Wait)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		s, err := createCommand(bounded, cfg, conn)
		done <- result{s, err}
	}()
	tick := time.NewTicker(blockersEvery)
	defer tick.Stop()
	var blockers []Blocker
	for {
		select {
		case r := <-done:
			if r.err == nil {
				return r.slot, nil
			}
			if pg.IsCode(r.err, pg.CodeDuplicateObject) {
				return nil, fmt.Errorf("create slot %s: %w", cfg.Name, ErrExists)
			}
			return nil, abandoned(ctx, bounded, cfg, plain, conn, blockers, r.err)
		case <-tick.C:
			if found, err := Blockers(bounded, plain); err == nil {
				blockers = found
				if cfg.OnBlocked != nil && len(found) > 0 {
					cfg.OnBlocked(found)
				}
			}
		}
	}
}

// abandoned clears up after a creation that did not come about, and says why.
func abandoned(ctx, bounded context.Context, cfg Config, plain *pgx.Conn, conn *pgconn.PgConn, blockers []Blocker, cause error) error {
	pg.Close(conn, cleanupTimeout)
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	timedOut := ctx.Err() == nil && bounded.Err() != nil
	if plain.IsClosed() { // the end of ctx met it in the middle of a query
		again, err := cfg.Connect(cleanup)
		if err != nil {
			return fmt.Errorf("create slot %s: %w; clear up: %w", cfg.Name, cause, err)
		}
		defer func() { _ = again.Close(cleanup) }()
		plain = again
	}
	if timedOut {
		if found, err := Blockers(cleanup, plain); err == nil && len(found) > 0 {
			blockers = found
		}
	}
	// A walsender that waits for transactions notices the lost client only when
	// it is told; an unfinished slot goes with it.
	if err := Drop(cleanup, plain, cfg.Name); err != nil {
		return fmt.Errorf("create slot %s: %w; clear up: %w", cfg.Name, cause, err)
	}
	if timedOut {
		return &BlockedError{Name: cfg.Name, Waited: cfg.Wait, Blockers: blockers}
	}
	return fmt.Errorf("create slot %s: %w", cfg.Name, cause)
}

func createCommand(ctx context.Context, cfg Config, conn *pgconn.PgConn) (*Slot, error) {
	sql := "CREATE_REPLICATION_SLOT " + pg.QuoteIdent(cfg.Name)
	if cfg.Temporary {
		sql += " TEMPORARY"
	}
	sql += " LOGICAL pgoutput "
	if pg.Version(conn) >= 150000 {
		sql += "(SNAPSHOT 'export')"
	} else {
		sql += "EXPORT_SNAPSHOT"
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 3 {
		return nil, errors.New("the server's answer has an unknown form")
	}
	row := results[0].Rows[0] // slot_name, consistent_point, snapshot_name, output_plugin
	lsn, err := pg.ParseLSN(string(row[1]))
	if err != nil {
		return nil, err
	}
	if len(row[2]) == 0 {
		return nil, errors.New("the server exported no snapshot")
	}
	return &Slot{Name: cfg.Name, ConsistentPoint: lsn, Snapshot: string(row[2]), conn: conn}, nil
}

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
	return strings.Join(lists.Map(blockers, Blocker.String), "; ")
}

// Blockers returns the transactions that the creation of a logical slot has to
// wait for: all that have a transaction number, oldest first. Sessions of other
// roles show their details only to members of pg_monitor.
func Blockers(ctx context.Context, conn *pgx.Conn) ([]Blocker, error) {
	found, err := readBlockers(ctx, conn, `SELECT pid, coalesce(usename::text, ''), coalesce(application_name, ''), coalesce(state, backend_type, ''),
			coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - xact_start), 0)
		FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
		UNION ALL SELECT 0, owner::text, gid, 'prepared', pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - prepared)
		FROM pg_catalog.pg_prepared_xacts
		ORDER BY 5 DESC`)
	return found, pg.Wrap(err, "list open transactions")
}

// readBlockers reads sessions: process, role, application, state, seconds.
func readBlockers(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]Blocker, error) {
	return pg.Rows(ctx, conn, func(row pgx.CollectableRow) (Blocker, error) {
		var b Blocker
		var seconds float64
		err := row.Scan(&b.PID, &b.User, &b.Application, &b.State, &seconds)
		b.Open = time.Duration(seconds * float64(time.Second))
		return b, err
	}, sql, args...)
}

// describeLocked names, for tables whose lock was not to be had, who holds locks
// on them that are in the way of SHARE UPDATE EXCLUSIVE.
func describeLocked(ctx context.Context, conn *pgx.Conn, locked map[pg.Name]error) error {
	var parts []string
	for _, t := range slices.SortedFunc(maps.Keys(locked), func(a, b pg.Name) int { return strings.Compare(a.String(), b.String()) }) {
		holders, err := readBlockers(ctx, conn, `SELECT DISTINCT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, a.backend_type, ''),
				coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.xact_start), 0)
			FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
			JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE l.locktype = 'relation' AND l.granted AND n.nspname = $1 AND c.relname = $2
			AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
			AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`, t.Schema, t.Name)
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
