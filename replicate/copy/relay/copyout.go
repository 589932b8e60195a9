package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"crossfade/internal/base/pg"
)

// CopyOut runs one query string with one COPY … TO STDOUT or more, and after them a query for one
// value, and writes the rows of the COPYs to r. All of it is sent at once, so that the server
// releases its locks when it has sent the last row, however slowly the rows are read. If each is
// set, the end of each COPY is passed on too; otherwise only the end of the whole.
//
// It tells r how the stream ended. The server's error is returned as *pgconn.PgError and leaves
// conn usable; after any other error, and after the end of ctx, conn is closed.
func CopyOut(ctx context.Context, conn *pgconn.PgConn, sql string, r *Relay, each bool) (rows []int64, value string, err error) {
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
	frames := pg.FramesOf(conn)
	if frames == nil {
		return nil, "", errors.New("read rows: the session was not opened by pg.Connect")
	}
	fe := conn.Frontend()
	fe.SendQuery(&pgproto3.Query{String: sql})
	if err := fe.Flush(); err != nil {
		return nil, "", fmt.Errorf("send COPY: %w", broken(conn, err))
	}
	var failed error
	for {
		if err := r.take(frames); err != nil {
			return nil, "", fmt.Errorf("read rows: %w", broken(conn, err))
		}
		msg, err := conn.ReceiveMessage(context.Background())
		if err != nil {
			return nil, "", fmt.Errorf("read rows: %w", broken(conn, err))
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyDone:
			if each {
				if err := r.done(); err != nil {
					return nil, "", broken(conn, err)
				}
			}
		case *pgproto3.CommandComplete:
			if n, ok := copyTag(msg); ok {
				rows = append(rows, n)
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

// copyTag returns the rows that a COPY's tag names; ok is false for the tag of another command.
func copyTag(msg *pgproto3.CommandComplete) (rows int64, ok bool) {
	tag := string(msg.CommandTag)
	return pgconn.NewCommandTag(tag).RowsAffected(), strings.HasPrefix(tag, "COPY ")
}
