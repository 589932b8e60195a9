package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// SlotAdvancedError says that the slot's position is beyond what we reported: someone else read
// from it, or dropped it and made another one of its name, and what lies between is lost to us.
type SlotAdvancedError struct {
	Slot                string
	Confirmed, Reported pg.LSN
}

func (e *SlotAdvancedError) Error() string {
	return fmt.Sprintf("slot %s was advanced to %s, or dropped and made again, by someone else; the target has the changes up to %s: those between are lost",
		e.Slot, e.Confirmed, e.Reported)
}

// SlotGoneError says that the slot no longer exists on the source.
type SlotGoneError struct {
	Slot string
	Err  error
}

func (e *SlotGoneError) Error() string {
	return fmt.Sprintf("slot %s is not on the source any more: the changes since are lost: %v", e.Slot, e.Err)
}

func (e *SlotGoneError) Unwrap() error { return e.Err }

// SourceRewoundError says that the source's WAL ends before what it has sent us already: it was set
// back to an earlier state, or a standby took its place that had not received everything.
type SourceRewoundError struct{ End, Had pg.LSN }

func (e *SourceRewoundError) Error() string {
	return fmt.Sprintf("the source's WAL ends at %s, but it has sent changes up to %s: it was set back to an earlier state or lost commits, so the target has rows that it has not",
		e.End, e.Had)
}

// SystemChangedError says that the source is another server than before.
type SystemChangedError struct{ Want, Got string }

func (e *SystemChangedError) Error() string {
	return fmt.Sprintf("source has system identifier %s, the migration began on %s: point the source at the server that it began on", e.Got, e.Want)
}

// open logs in and starts replication. Errors that no new attempt can fix are
// marked retry.Permanent.
func (r *Reader) open(ctx context.Context) (*pgconn.HijackedConn, error) {
	conn, err := pg.ConnectReplication(ctx, r.cfg.DSN, r.cfg.Options...)
	if err != nil {
		return nil, classify(err)
	}
	hijacked, err := r.start(ctx, conn)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, classify(err)
	}
	return hijacked, nil
}

func (r *Reader) start(ctx context.Context, conn *pgconn.PgConn) (*pgconn.HijackedConn, error) {
	version := pg.Version(conn)
	if version == 0 {
		return nil, retry.Permanent(fmt.Errorf("read server version %q: no number at its start", conn.ParameterStatus("server_version")))
	}
	row, err := oneRow(ctx, conn, "IDENTIFY_SYSTEM")
	if err != nil {
		return nil, fmt.Errorf("identify source: %w", err)
	}
	if got := row[0]; r.cfg.SystemID != "" && got != r.cfg.SystemID {
		return nil, retry.Permanent(&SystemChangedError{Want: r.cfg.SystemID, Got: got})
	}
	// The source sends only what is in its own WAL on disk.
	if end, err := pg.ParseLSN(row[2]); err != nil {
		return nil, fmt.Errorf("identify source: %w", err)
	} else if had := max(r.emitted, r.Confirmed()); end < had {
		return nil, retry.Permanent(&SourceRewoundError{End: end, Had: had})
	}
	sql := startCommand(r.cfg.Slot, r.cfg.Publication, r.emitted, version/10000)
	conn.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, fmt.Errorf("start replication: %w", err)
	}
	for {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, fmt.Errorf("start replication from slot %s: %w", r.cfg.Slot, err)
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyBothResponse:
			if err := r.proveSlot(ctx); err != nil {
				return nil, err
			}
			return conn.Hijack()
		case *pgproto3.ErrorResponse:
			if msg.Code == pg.CodeUndefinedObject {
				return nil, retry.Permanent(&SlotGoneError{Slot: r.cfg.Slot, Err: pgconn.ErrorResponseToPgError(msg)})
			}
			return nil, fmt.Errorf("start replication from slot %s: %w", r.cfg.Slot, pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return nil, fmt.Errorf("start replication from slot %s: unexpected answer %T", r.cfg.Slot, msg)
		}
	}
}

// proveSlot proves that the slot was not moved by someone else, or dropped and created again under
// its name. It runs while our walsender has the slot, so that this is impossible from then on, and
// before anything is reported to the source.
func (r *Reader) proveSlot(ctx context.Context) error {
	conn, err := pg.Connect(ctx, r.cfg.DSN, r.cfg.Options...)
	if err != nil {
		return fmt.Errorf("look at slot %s: %w", r.cfg.Slot, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var confirmed pg.LSN
	if err := conn.QueryRow(ctx, `SELECT confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, r.cfg.Slot).Scan(&confirmed); err != nil {
		return fmt.Errorf("look at slot %s: %w", r.cfg.Slot, err)
	}
	if reported := r.Confirmed(); confirmed > reported && !r.cfg.Behind {
		return retry.Permanent(&SlotAdvancedError{Slot: r.cfg.Slot, Confirmed: confirmed, Reported: reported})
	}
	return nil
}

// oneRow runs one statement and returns its first row.
func oneRow(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return nil, errors.New("no row")
	}
	return lists.Map(results[0].Rows[0], func(v []byte) string { return string(v) }), nil
}

// classify marks the errors of the source that no new attempt can fix.
func classify(err error) error {
	switch pg.Code(err) {
	case pg.CodeUndefinedObject, // slot or publication
		pg.CodeObjectNotInState, // slot invalidated, wal_level
		pg.CodeUndefinedFile,    // WAL removed
		pg.CodeInvalidPassword, pg.CodeInvalidAuthorization, pg.CodeInvalidCatalog, pg.CodeInsufficientPrivilege,
		pg.CodeSyntaxError, pg.CodeInvalidParameter, pg.CodeFeatureNotSupported:
		return retry.Permanent(err)
	}
	if errors.Is(err, ErrMalformed) {
		return retry.Permanent(err)
	}
	return err
}

// closeOnEnd closes conn when ctx ends, which wakes a blocked read or write.
func closeOnEnd(ctx context.Context, conn net.Conn) func() {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return func() {
		stop()
		_ = conn.Close()
	}
}

// startCommand writes START_REPLICATION with the options of pgoutput that a
// source of this major version knows: an unknown one is an error there.
func startCommand(slot, publication string, start pg.LSN, major int) string {
	opts := []string{
		"proto_version '1'",
		// The server splits the list as identifiers.
		"publication_names " + literal(pg.QuoteIdent(publication)),
	}
	if major >= 14 {
		opts = append(opts, "messages 'true'")
	}
	return fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (%s)", pg.QuoteIdent(slot), start, strings.Join(opts, ", "))
}

// literal quotes a string for the replication grammar, which knows no escape
// strings and gives a backslash no meaning.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
