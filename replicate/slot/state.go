package slot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// State is what the source says of a slot.
type State struct {
	Name           string
	Plugin         string
	Database       string
	Active         bool
	ActivePID      int32  // 0 if nobody streams
	RestartLSN     pg.LSN // WAL from here on is kept; 0 once it was lost
	ConfirmedFlush pg.LSN
	WALStatus      string // reserved, extended, unreserved, lost; "" before PostgreSQL 13
	SafeWALSize    int64  // bytes of WAL until the slot is in danger; -1 where there is no limit
	Retained       int64  // bytes of WAL kept because of the slot
}

// Lost reports whether the slot can no longer be streamed from.
func (s State) Lost() bool { return s.WALStatus == "lost" || s.RestartLSN == 0 }

// Get reads the state of the slot; ok is false if there is none.
func Get(ctx context.Context, conn *pgx.Conn, name string) (s State, ok bool, err error) {
	status, safe := "wal_status", "safe_wal_size"
	if pg.ServerVersion(conn) < 130000 {
		status, safe = "''", "-1"
	}
	err = conn.QueryRow(ctx, `SELECT slot_name::text, coalesce(plugin::text, ''), coalesce(database::text, ''), active, coalesce(active_pid, 0),
			coalesce(restart_lsn::text, '0/0'), coalesce(confirmed_flush_lsn::text, '0/0'),
			coalesce(`+status+`, ''), coalesce(`+safe+`, -1)::bigint,
			coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
				THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn), 0)::bigint
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, name).
		Scan(&s.Name, &s.Plugin, &s.Database, &s.Active, &s.ActivePID, &s.RestartLSN, &s.ConfirmedFlush, &s.WALStatus, &s.SafeWALSize, &s.Retained)
	if errors.Is(err, pgx.ErrNoRows) {
		return State{}, false, nil
	}
	return s, err == nil, pg.Wrap(err, "read slot %s", name)
}

const (
	// dropPatience is how long a walsender may need to notice that its client
	// has gone: a little more than the time between two of its keepalives.
	dropPatience = 45 * time.Second
	dropEvery    = 50 * time.Millisecond
)

// Drop ends the session that streams from the slot, and drops the slot; it is no error if there is
// none. The end of ctx may close conn.
func Drop(ctx context.Context, conn *pgx.Conn, name string) error {
	var holder int32
	for range retry.PollFor(ctx, dropEvery, dropPatience) {
		pid, gone, err := tryDrop(ctx, conn, name)
		if gone {
			return nil
		}
		if err != nil && (ctx.Err() == nil || holder == 0) {
			return fmt.Errorf("drop slot %s: %w", name, err)
		}
		if pid != 0 {
			holder = pid
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("drop slot %s: in use by pid %d: end that session and try again: %w", name, holder, context.Cause(ctx))
	}
	return fmt.Errorf("drop slot %s: in use by pid %d for %s: end that session and try again", name, holder, dropPatience)
}

// tryDrop makes one attempt; without an error the slot is gone, or in use by the
// session holder, 0 if that is not known.
func tryDrop(ctx context.Context, conn *pgx.Conn, name string) (holder int32, gone bool, err error) {
	s, ok, err := Get(ctx, conn, name)
	switch {
	case err != nil:
		return 0, false, err
	case !ok:
		return 0, true, nil
	case s.Active:
		_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_terminate_backend($1)", s.ActivePID)
		return s.ActivePID, false, pg.Wrap(err, "end the session that uses it, pid %d", s.ActivePID)
	}
	_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", name)
	switch {
	case err == nil || pg.IsCode(err, pg.CodeUndefinedObject):
		return 0, true, nil
	case pg.IsCode(err, pg.CodeObjectInUse):
		return 0, false, nil
	}
	return 0, false, err
}
