package stream

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"crossfade/internal/pg"
	"crossfade/internal/retry"
)

// SlotAdvancedError says that the slot's position is beyond what we reported:
// somebody else read from it, and what lies between is lost to us.
type SlotAdvancedError struct {
	Slot                string
	Confirmed, Reported pg.LSN
}

func (e *SlotAdvancedError) Error() string {
	return fmt.Sprintf("slot %s was advanced to %s by somebody else, we are durable to %s: the changes between are lost; start the migration anew",
		e.Slot, e.Confirmed, e.Reported)
}

// SystemChangedError says that the source is another server than before.
type SystemChangedError struct{ Want, Got string }

func (e *SystemChangedError) Error() string {
	return fmt.Sprintf("source has system identifier %s, the migration began on %s: point the source at the server that it began on", e.Got, e.Want)
}

// open logs in and starts replication. Errors that no new attempt can mend are
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
	major, err := majorVersion(conn.ParameterStatus("server_version"))
	if err != nil {
		return nil, retry.Permanent(err)
	}
	row, err := oneRow(ctx, conn, "IDENTIFY_SYSTEM")
	if err != nil {
		return nil, fmt.Errorf("identify source: %w", err)
	}
	if got := row[0]; r.cfg.SystemID != "" && got != r.cfg.SystemID {
		return nil, retry.Permanent(&SystemChangedError{Want: r.cfg.SystemID, Got: got})
	}
	if err := r.checkSlot(ctx, conn); err != nil {
		return nil, err
	}
	sql := startCommand(r.cfg.Slot, r.cfg.Publication, r.emitted, major)
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
			return conn.Hijack()
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("start replication from slot %s: %w", r.cfg.Slot, pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return nil, fmt.Errorf("start replication from slot %s: unexpected answer %T", r.cfg.Slot, msg)
		}
	}
}

// checkSlot proves that nobody else moved the slot.
func (r *Reader) checkSlot(ctx context.Context, conn *pgconn.PgConn) error {
	row, err := oneRow(ctx, conn, "SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = "+pg.QuoteLiteral(r.cfg.Slot))
	if errors.Is(err, errNoRow) {
		return retry.Permanent(fmt.Errorf("slot %s does not exist on the source: start the migration anew", r.cfg.Slot))
	}
	if err != nil {
		return fmt.Errorf("look at slot %s: %w", r.cfg.Slot, err)
	}
	confirmed, err := pg.ParseLSN(row[0])
	if err != nil {
		return fmt.Errorf("look at slot %s: %w", r.cfg.Slot, err)
	}
	if reported := r.Confirmed(); confirmed > reported {
		return retry.Permanent(&SlotAdvancedError{Slot: r.cfg.Slot, Confirmed: confirmed, Reported: reported})
	}
	return nil
}

var errNoRow = errors.New("no row")

// oneRow runs one statement and returns its first row.
func oneRow(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return nil, errNoRow
	}
	var row []string
	for _, v := range results[0].Rows[0] {
		row = append(row, string(v))
	}
	return row, nil
}

// classify marks the errors of the source that no new attempt can mend.
func classify(err error) error {
	switch pg.Code(err) {
	case pg.CodeUndefinedObject, // slot or publication
		pg.CodeObjectNotInState, // slot invalidated, wal_level
		"58P01",                 // WAL removed
		pg.CodeInvalidPassword, pg.CodeInvalidAuthorization, pg.CodeInvalidCatalog, pg.CodeInsufficientPrivilege,
		"42601", pg.CodeInvalidParameter, pg.CodeFeatureNotSupported:
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
