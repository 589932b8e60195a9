package onedatabase

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// Error says that two connection strings lead to one database.
type Error struct {
	Database       string
	Source, Target string // where each leads, without secrets
	Standby        bool   // the source is a standby of the target
}

func (e *Error) Error() string {
	detail, remedy := e.Parts()
	return detail + "; " + remedy
}

// Parts returns what is wrong, and what to do.
func (e *Error) Parts() (detail, remedy string) {
	detail = fmt.Sprintf("--source and --target lead to one database, %s: both %s and %s are names of it", e.Database, e.Source, e.Target)
	if e.Standby {
		detail = fmt.Sprintf("--source and --target lead to one database, %s: %s is a standby of the server of %s, and has all that is written there", e.Database, e.Source, e.Target)
	}
	return detail, "nothing was written; name another database as --target"
}

// StandbyError says that a side is a standby and must not be, or that it cannot be found out whose
// standby it is.
type StandbyError struct{ Detail, Remedy string }

func (e *StandbyError) Error() string { return e.Detail + "; " + e.Remedy }

// ReplayPatience bounds how long a standby is waited for that has not replayed what the
// target has written. One that streams takes milliseconds.
const ReplayPatience = 10 * time.Second

// Refuse returns an *Error when the sessions are in one database, whatever their connection strings
// say, and a *StandbyError when target is a standby, or when source is one that may be target's.
// Neither session may be within a transaction.
//
// What counts is what the servers do, not what they are called: a lock that one session takes under
// a random number is held as seen by the other one, or is not (PostgreSQL documentation 13.3.5:
// advisory locks belong to one database of one running server). System identifiers do not tell: a
// copy of a cluster's files has the same one, and so has a branch. Advisory locks need no rights
// and are not replicated to standbys. So if source is in recovery, and its cluster and database may
// be target's, a mark is put into target's catalog for a moment and searched for in what source has
// replayed.
func Refuse(ctx context.Context, source, target *pgx.Conn) error {
	same, err := sameServer(ctx, source, target)
	if err != nil {
		return fmt.Errorf("compare source and target: %w", err)
	}
	if same {
		return oneDatabase(source, target)
	}
	s, err := readOrigin(ctx, source)
	if err != nil {
		return fmt.Errorf("compare source and target: source: %w", err)
	}
	t, err := readOrigin(ctx, target)
	if err != nil {
		return fmt.Errorf("compare source and target: target: %w", err)
	}
	if t.recovery {
		return &StandbyError{Detail: "--target " + place(target) + " is a standby, or its server still recovers: nothing can be written there",
			Remedy: "name the primary server as --target"}
	}
	if !s.recovery || s.apart(t) {
		return nil
	}
	return refuseStandby(ctx, source, target, s, t)
}

func oneDatabase(source, target *pgx.Conn) *Error {
	return &Error{Database: source.Config().Database, Source: place(source), Target: place(target)}
}

// place says where a session leads.
func place(c *pgx.Conn) string {
	cfg := c.Config()
	return fmt.Sprintf("%s@%s/%s", cfg.User, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))), cfg.Database)
}

// sameServer takes a lock in one session and looks for it in the other. The lock belongs to a
// transaction, so that a pooler in between cannot leave it held.
func sameServer(ctx context.Context, a, b *pgx.Conn) (bool, error) {
	var token [8]byte
	_, _ = rand.Read(token[:]) // never fails
	key := int64(binary.BigEndian.Uint64(token[:]))
	tx, err := a.Begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_advisory_xact_lock($1)`, key); err != nil {
		return false, err
	}
	var free bool
	err = b.QueryRow(ctx, `SELECT pg_catalog.pg_try_advisory_xact_lock($1)`, key).Scan(&free)
	return err == nil && !free, err
}

// origin is what a database shares with the standbys of its server, and with copies of its files.
type origin struct {
	recovery bool
	database uint32 // oid
	system   string // system identifier, "" where the role may not read it
	branch   string // of Neon, "" elsewhere
}

func readOrigin(ctx context.Context, conn *pgx.Conn) (origin, error) {
	var o origin
	err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_is_in_recovery(), d.oid, coalesce(pg_catalog.current_setting('neon.timeline_id', true), '')
		FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`).Scan(&o.recovery, &o.database, &o.branch)
	if err != nil {
		return o, err
	}
	err = conn.QueryRow(ctx, `SELECT system_identifier::text FROM pg_catalog.pg_control_system()`).Scan(&o.system)
	if pg.Code(err) != "" && !pg.ConnectionLost(err) { // refused, or not there
		return o, nil
	}
	return o, err
}

// apart reports whether o cannot have replayed what p has written.
func (o origin) apart(p origin) bool {
	return o.database != p.database || o.system != "" && p.system != "" && o.system != p.system ||
		o.branch != "" && p.branch != "" && o.branch != p.branch
}

// refuseStandby finds out whether source replays what target writes.
func refuseStandby(ctx context.Context, source, target *pgx.Conn, s, t origin) error {
	mark, written, err := leaveMark(ctx, target)
	if err != nil {
		return fmt.Errorf("find out whether %s is a standby of %s's server: %w", place(source), place(target), err)
	}
	defer func() { _, _ = target.Exec(context.WithoutCancel(ctx), "DROP TABLE pg_temp."+pg.QuoteIdent(mark)) }()
	for range retry.PollFor(ctx, 20*time.Millisecond, ReplayPatience) {
		// The position first: a mark that is searched for after it has been replayed is found.
		var replayed, marked bool
		err := source.QueryRow(ctx, `SELECT coalesce(pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_catalog.pg_lsn, false)`, written).Scan(&replayed)
		if err == nil {
			err = source.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname = $1)`, mark).Scan(&marked)
		}
		if err != nil {
			return fmt.Errorf("find out whether %s is a standby of %s's server: %w", place(source), place(target), err)
		}
		if marked {
			e := oneDatabase(source, target)
			e.Standby = true
			return e
		}
		if replayed {
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unknownStandby(source, target, s, t)
}

// leaveMark makes a temporary table under a random name, whose row of the catalog a standby
// gets, and returns the name and a position of the log after it.
func leaveMark(ctx context.Context, conn *pgx.Conn) (mark, written string, err error) {
	mark = "crossfade_" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(ctx, "CREATE TEMPORARY TABLE pg_temp."+pg.QuoteIdent(mark)+" ()"); err != nil {
		return "", "", err
	}
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_current_wal_insert_lsn()::text`).Scan(&written)
	return mark, written, err
}

func unknownStandby(source, target *pgx.Conn, s, t origin) *StandbyError {
	e := &StandbyError{
		Detail: fmt.Sprintf("--source %s is a standby, and within %v it has not replayed what --target %s wrote: it cannot be told whether it is one of that server's", place(source), ReplayPatience, place(target)),
		Remedy: "let it replay (SELECT pg_wal_replay_resume()), or name the primary server as --source"}
	if s.system == "" || t.system == "" {
		e.Remedy += "; or let both roles compare the clusters: GRANT EXECUTE ON FUNCTION pg_control_system() TO the role"
	}
	return e
}
