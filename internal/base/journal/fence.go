package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// FenceState is the state of the fence triggers of a database.
type FenceState struct {
	Tables  int // tables that a fence must cover
	Ready   int // of these, with the trigger in any state
	Enabled int // of these, with the trigger enabled as ALWAYS
	Shut    bool
}

// MissingFence lists the tables without a fence trigger.
func MissingFence(ctx context.Context, conn *pgx.Conn) ([]pg.Name, error) {
	tables, err := Tables(ctx, conn)
	if err != nil {
		return nil, err
	}
	have, err := fenced(ctx, conn)
	return lists.Filter(tables, func(t pg.Name) bool { return have[t] == "" }), err
}

// fenced maps each table that has the trigger to its tgenabled.
func fenced(ctx context.Context, conn *pgx.Conn) (map[pg.Name]string, error) {
	have, err := pg.SelectMap(ctx, conn, func(n *pg.Name, enabled *string) []any {
		return []any{&n.Schema, &n.Name, enabled}
	}, `SELECT n.nspname, c.relname, t.tgenabled::text
		FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE t.tgname = $1 AND NOT t.tgisinternal`, FenceTrigger)
	return have, pg.Wrap(err, "read fence triggers")
}

// FenceShut reports whether the fence refuses writers, as far as the caller's snapshot sees.
func FenceShut(ctx context.Context, conn *pgx.Conn) (shut bool, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(bool_or(prosrc LIKE '%RAISE EXCEPTION%'), false) FROM pg_catalog.pg_proc
		WHERE oid = pg_catalog.to_regprocedure('crossfade.fence()')`).Scan(&shut)
	return shut, pg.Wrap(err, "read the fence")
}

// ReadFence reads the state of the fence.
func ReadFence(ctx context.Context, conn *pgx.Conn) (FenceState, error) {
	tables, err := Tables(ctx, conn)
	if err != nil {
		return FenceState{}, err
	}
	have, err := fenced(ctx, conn)
	if err != nil {
		return FenceState{}, err
	}
	s := FenceState{Tables: len(tables)}
	if s.Shut, err = FenceShut(ctx, conn); err != nil {
		return FenceState{}, err
	}
	for _, t := range tables {
		if e, ok := have[t]; ok {
			s.Ready++
			if e == "A" {
				s.Enabled++
			}
		}
	}
	return s, nil
}

// Together is how many tables of a database that no application uses yet are given
// or lose their triggers in one transaction. Where applications work, it is one.
const Together = 50

// Patience says how statements that lock tables are tried while applications work.
type Patience struct {
	// LockTimeout bounds each wait for a lock, and with it the wait of an application's statement
	// that queues behind it.
	LockTimeout time.Duration
	// Together is how many tables are tried in one transaction before each is tried in its own; 0
	// is as 1.
	Together int
	// Quiet is asked for a table whose writers left no moment for the lock; it may be nil.
	Quiet Quiet
}

// PrepareFence gives every table that lacks it the fence trigger, disabled or
// (enabled) as ALWAYS. It tries again until ctx ends.
func PrepareFence(ctx context.Context, conn *pgx.Conn, how Patience, enabled bool) error {
	return PrepareFenceOf(ctx, conn, how, enabled, nil)
}

// PrepareFenceOf is PrepareFence for the tables that pick tells, all of them where it is nil.
func PrepareFenceOf(ctx context.Context, conn *pgx.Conn, how Patience, enabled bool, pick func(pg.Name) bool) error {
	missing, err := MissingFence(ctx, conn)
	if err != nil {
		return err
	}
	if pick != nil {
		missing = slices.DeleteFunc(missing, func(n pg.Name) bool { return !pick(n) })
	}
	state := "DISABLE TRIGGER "
	if enabled {
		state = "ENABLE ALWAYS TRIGGER "
	}
	t, err := how.each(ctx, conn, missing, func(t string) string {
		return "CREATE TRIGGER " + FenceTrigger + " BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON " + t +
			" FOR EACH STATEMENT EXECUTE FUNCTION crossfade.fence();" +
			"ALTER TABLE ONLY " + t + " " + state + FenceTrigger + ";"
	})
	return pg.Wrap(err, "prepare the fence of %s", t.Display())
}

// CloseFence locks the tables against writers, enables their fence triggers, whatever the
// application made of them meanwhile, and shuts the fence, within the caller's transaction (C14).
func CloseFence(tables []pg.Name) string {
	return Lock(tables, "SHARE ROW EXCLUSIVE") + alterTriggers(tables, "ENABLE ALWAYS TRIGGER ") + ShutFence
}

// Lock returns the statement that locks each table in a mode, "" for none.
func Lock(tables []pg.Name, mode string) string {
	if len(tables) == 0 {
		return ""
	}
	names := lists.Map(tables, func(t pg.Name) string { return "ONLY " + t.String() })
	return "LOCK TABLE " + strings.Join(names, ", ") + " IN " + mode + " MODE;"
}

func alterTriggers(tables []pg.Name, action string) string {
	statements := lists.Map(tables, func(t pg.Name) string { return "ALTER TABLE ONLY " + t.String() + " " + action + FenceTrigger + ";" })
	return strings.Join(statements, "")
}

// DropFence removes the fence triggers. It tries again until ctx ends, and returns how many tables
// had one.
func DropFence(ctx context.Context, conn *pgx.Conn, how Patience) (int, error) {
	have, err := fenced(ctx, conn)
	if err != nil {
		return 0, err
	}
	tables := slices.SortedFunc(maps.Keys(have), func(a, b pg.Name) int { return strings.Compare(a.String(), b.String()) })
	t, err := how.each(ctx, conn, tables, func(t string) string {
		return "DROP TRIGGER IF EXISTS " + FenceTrigger + " ON " + t + ";"
	})
	return len(have), pg.Wrap(err, "remove the fence of %s", t.Display())
}

// each runs what sql makes for each table, for how.Together tables in one
// transaction; where that cannot be had at once, for each in its own, patiently. A
// table that was dropped meanwhile is passed over, and so is one that someone else has just given
// what it is to be given. The table is that of the error.
func (how Patience) each(ctx context.Context, conn *pgx.Conn, tables []pg.Name, sql func(table string) string) (pg.Name, error) {
	for some := range slices.Chunk(tables, max(1, how.Together)) {
		if len(some) > 1 {
			var all strings.Builder
			for _, t := range some {
				all.WriteString(sql(t.String()))
			}
			if Transact(ctx, conn, how.LockTimeout, all.String()) == nil {
				continue
			}
		}
		for _, t := range some {
			err := how.one(ctx, conn, t, sql(t.String()))
			if err != nil && !pg.IsCode(err, pg.CodeUndefinedTable, pg.CodeDuplicateObject) {
				return t, err
			}
		}
	}
	return pg.Name{}, nil
}

// A patient statement stays out of the lock queue for a while after each attempt, so that the
// application gets its turn: longer each time, since the holder may keep the lock for hours.
const (
	lockRetryFirst = 100 * time.Millisecond
	lockRetryMost  = 10 * time.Second
	// lockRetryAlone is how many tries are made before the writers are held.
	lockRetryAlone = 4
)

// Quiet calls do, which waits for the lock of a table for at most lockTimeout, once, while the
// writers of the table are held that can be, and returns its error. It is asked for a table whose
// writers overlap, so that no wait as short as ours would end.
type Quiet func(ctx context.Context, table pg.Name, do func(ctx context.Context, lockTimeout time.Duration) error) error

// one runs statements that lock a table in one transaction and tries again while the lock is
// not to be had in time, until ctx ends.
func (how Patience) one(ctx context.Context, conn *pgx.Conn, table pg.Name, sql string) error {
	try := func(ctx context.Context, lockTimeout time.Duration) error {
		return Transact(ctx, conn, lockTimeout, sql)
	}
	pause := lockRetryFirst
	for n := 1; ; n++ {
		var err error
		if n > lockRetryAlone && how.Quiet != nil {
			err = how.Quiet(ctx, table, try)
		} else {
			err = try(ctx, how.LockTimeout)
		}
		if !pg.IsCode(err, pg.CodeLockNotAvailable, pg.CodeDeadlockDetected) {
			return err
		}
		if ended := retry.Sleep(ctx, pause); ended != nil {
			return errors.Join(err, ended)
		}
		pause = min(2*pause, lockRetryMost)
	}
}

// Transact runs statements in one transaction of its own with a lock timeout. They and the commit
// go to the server in one message, so that it does not keep their locks if this program pauses
// between two of them.
func Transact(ctx context.Context, conn *pgx.Conn, lockTimeout time.Duration, sql string) error {
	_, err := conn.PgConn().Exec(ctx, "BEGIN;"+SetLocalLockTimeout(lockTimeout)+sql+";COMMIT").ReadAll()
	if err != nil && !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		if _, also := conn.PgConn().Exec(context.WithoutCancel(ctx), "ROLLBACK").ReadAll(); also != nil {
			return errors.Join(err, fmt.Errorf("roll back: %w", also))
		}
	}
	return err
}

// SetLocalLockTimeout returns the statement that bounds lock waits in a transaction.
func SetLocalLockTimeout(d time.Duration) string {
	return fmt.Sprintf("SET LOCAL lock_timeout = %d;", max(1, d.Milliseconds()))
}

// fenceMark is what the fence of a database is by the catalog's rows and their
// versions: that of its function, and a sum over those of its triggers. A trigger that
// was disabled and enabled again has another version.
const fenceMark = `(SELECT coalesce((SELECT p.oid::text || '/' || p.xmin::text FROM pg_catalog.pg_proc p
		WHERE p.oid = pg_catalog.to_regprocedure('crossfade.fence()')), '') || '/' ||
	coalesce((SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws('/', t.tgrelid, t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid))
		FROM pg_catalog.pg_trigger t WHERE t.tgname = '` + FenceTrigger + `' AND NOT t.tgisinternal), ''))`

// FenceChanged asks the source, while an epoch is fenced, whether its fence is the one
// that the epoch's fence transaction made, and was it all the time since. It returns
// what was changed, "" for nothing, also where the source is not fenced.
func FenceChanged(ctx context.Context, conn *pgx.Conn) (string, error) {
	var was, is string
	var fenced bool
	err := conn.QueryRow(ctx, `SELECT step IN ('fenced', 'draining', 'deciding'), fence, `+fenceMark+` FROM crossfade.run`).Scan(&fenced, &was, &is)
	if err != nil {
		return "", fmt.Errorf("look at the fence: %w", err)
	}
	if !fenced || was == is {
		return "", nil
	}
	function, _ := cutLast(was)
	if now, _ := cutLast(is); now != function {
		return "function crossfade.fence() was replaced", nil
	}
	// The function is of the fence's own transaction; what is younger was changed since.
	_, xid := cutLast(function)
	tables, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[pg.Name], `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_trigger t
		JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE t.tgname = $1 AND NOT t.tgisinternal AND (t.tgenabled <> 'A' OR pg_catalog.age(t.xmin) < pg_catalog.age($2::text::xid))
		ORDER BY 1, 2 LIMIT 5`, FenceTrigger, xid)
	if err != nil {
		return "", fmt.Errorf("look at the fence: %w", err)
	}
	names := lists.Map(tables, pg.Name.Display)
	if len(names) == 0 {
		return "a trigger " + FenceTrigger + " was dropped", nil
	}
	return "trigger " + FenceTrigger + " was changed on " + strings.Join(names, ", "), nil
}

// cutLast cuts a mark at its last slash.
func cutLast(s string) (before, after string) {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// Marker returns the statement that emits a marker and returns where it is in the log; nonce is a
// literal or a parameter. Servers older than 14 stream no messages: there it is a row.
func Marker(version int, nonce string) string {
	if version < 140000 {
		return `INSERT INTO crossfade.marker (nonce) VALUES (` + nonce + `) RETURNING pg_catalog.pg_current_wal_insert_lsn()::text`
	}
	return `SELECT pg_catalog.pg_logical_emit_message(true, '` + MarkerPrefix + `', ` + nonce + `)::text`
}

// Seal remembers the fence triggers as they are, each with the transaction that has written its row
// in pg_trigger, and their function, as that of relation 0: one that is disabled, dropped, replaced
// or made again later is another one, even if it looks the same. What is sealed already stays
// sealed.
func Seal(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `INSERT INTO crossfade.seal (relid, nsp, rel, trigger, version)
		SELECT t.tgrelid, n.nspname, c.relname, t.oid, t.xmin::text FROM pg_catalog.pg_trigger t
		JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE t.tgname = $1 AND NOT t.tgisinternal
		UNION ALL SELECT 0, '', '', p.oid, p.xmin::text FROM pg_catalog.pg_proc p WHERE p.oid = pg_catalog.to_regprocedure('crossfade.fence()')
		ON CONFLICT DO NOTHING`, FenceTrigger)
	return pg.Wrap(err, "seal the fence")
}

// SealAgain forgets what is sealed and seals the fence as it is now, in the caller's transaction: it
// has been opened and shut by decisions since.
func SealAgain(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `DELETE FROM crossfade.seal`); err != nil {
		return fmt.Errorf("seal the fence: %w", err)
	}
	return Seal(ctx, conn)
}

// Guarded is the state of the target's fence, and the sessions that write there.
type Guarded struct {
	Shut    bool      // and it was so all the time since it was sealed, as far as its function is concerned
	Touched []pg.Name // tables whose trigger is no longer the one that was sealed, also because it was dropped and made again, by their names then
	Writing []Writer  // sessions in a transaction that has written, which are not Crossfade's
}

// ReadTargetGuard reads how the target is guarded, in one round trip.
func ReadTargetGuard(ctx context.Context, conn *pgx.Conn) (Guarded, error) {
	var g Guarded
	b := &pgx.Batch{}
	b.Queue(`SELECT coalesce(pg_catalog.bool_or(p.prosrc LIKE '%RAISE EXCEPTION%' AND NOT EXISTS (
			SELECT FROM crossfade.seal s WHERE s.relid = 0 AND (s.trigger <> p.oid OR s.version <> p.xmin::text))), false) FROM pg_catalog.pg_proc p
		WHERE p.oid = pg_catalog.to_regprocedure('crossfade.fence()')`).QueryRow(func(row pgx.Row) error { return row.Scan(&g.Shut) })
	b.Queue(`SELECT s.nsp, s.rel FROM crossfade.seal s
		LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = s.relid AND t.oid = s.trigger
		WHERE s.relid <> 0 AND (t.oid IS NULL OR t.xmin::text <> s.version OR t.tgenabled <> 'A') ORDER BY 1, 2`).Query(func(rows pgx.Rows) (err error) {
		g.Touched, err = pgx.CollectRows(rows, pgx.RowToStructByPos[pg.Name])
		return err
	})
	b.Queue(`SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.client_addr::text, ''),
			pg_catalog.to_char(a.xact_start, 'HH24:MI:SS')
		FROM pg_catalog.pg_stat_activity a
		WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.backend_xid IS NOT NULL
			AND a.backend_type NOT IN ('walsender', 'parallel worker', 'autovacuum worker') AND a.application_name NOT LIKE 'crossfade%'
		ORDER BY a.pid`).Query(func(rows pgx.Rows) (err error) {
		g.Writing, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Writer])
		return err
	})
	err := conn.SendBatch(ctx, b).Close()
	return g, pg.Wrap(err, "look at how the target is guarded")
}
