package copy

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// copyOut runs one query string with a COPY … TO STDOUT, behind it a query for
// one value and the end of the transaction, and writes the rows of the
// COPY to r. All of it is sent at once, so that the server lets go of its locks
// when it has handed over the last row, however slowly the rows are taken.
//
// It tells r how the stream ended. The server's error is returned as
// *pgconn.PgError and leaves conn usable; after any other error, and after the
// end of ctx, conn is closed.
func copyOut(ctx context.Context, conn *pgconn.PgConn, sql string, r *relay) (rows int64, value string, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().Close() })
	defer func() {
		if !stop() && err == nil || err != nil && ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		if err == nil {
			err = io.EOF
		}
		err = r.closeWith(err)
	}()
	fe := conn.Frontend()
	fe.SendQuery(&pgproto3.Query{String: sql})
	if err := fe.Flush(); err != nil {
		return 0, "", fmt.Errorf("send COPY: %w", broken(conn, err))
	}
	var failed error
	for {
		msg, err := conn.ReceiveMessage(context.Background())
		if err != nil {
			return 0, "", fmt.Errorf("read rows: %w", broken(conn, err))
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			if _, err := r.Write(msg.Data); err != nil {
				return 0, "", broken(conn, err)
			}
		case *pgproto3.CommandComplete:
			if tag := pgconn.NewCommandTag(string(msg.CommandTag)); len(tag.String()) > 4 && tag.String()[:4] == "COPY" {
				rows = tag.RowsAffected()
			}
		case *pgproto3.DataRow:
			if len(msg.Values) == 1 {
				value = string(msg.Values[0])
			}
		case *pgproto3.ErrorResponse:
			failed = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.ReadyForQuery:
			return rows, value, failed
		}
	}
}
