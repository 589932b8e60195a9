package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	ended := cut(ctx, conn)
	defer func() {
		if err = ended(err); err == nil {
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

// CopyIn runs a query string with one COPY … FROM STDIN or more on conn and feeds them from r, one
// write per buffer. pgconn's own CopyFrom writes at most 64 KiB at a time and knows one COPY.
// Nothing is waited for before the rows are sent: a server that refuses the statement throws them
// away. With each set, r's bytes hold the ends of the COPYs; else the one COPY is ended with
// CopyDone, and only if the relay ended with io.EOF.
//
// It returns the rows that each COPY took. The server's error is returned as
// *pgconn.PgError and leaves conn usable; after any other error, and after the end
// of ctx, conn is closed.
func CopyIn(ctx context.Context, conn *pgconn.PgConn, sql string, r *Relay, each bool) (rows []int64, err error) {
	defer r.readerGone()
	ended := cut(ctx, conn)
	defer func() { err = ended(err) }()
	fe := conn.Frontend()
	fe.SendQuery(&pgproto3.Query{String: sql})
	if err := fe.Flush(); err != nil {
		return nil, fmt.Errorf("send COPY: %w", broken(conn, err))
	}
	type reply struct {
		rows []int64
		err  error
	}
	replied := make(chan reply, 1)
	go func() {
		rows, err := copyReply(conn)
		r.readerGone()
		replied <- reply{rows, err}
	}()
	if err := feed(ctx, conn.Conn(), r, each); err != nil {
		// A failed write closes the socket, so that the reader ends as well; what
		// the server said before that is the better explanation.
		_ = conn.Conn().Close()
		if got := <-replied; got.err != nil {
			return nil, errors.Join(got.err, err)
		}
		return nil, fmt.Errorf("send rows: %w", broken(conn, err))
	}
	got := <-replied
	return got.rows, got.err
}

// The messages that end the data (PostgreSQL documentation 55.7).
var (
	copyDone = &pgproto3.CopyDone{}
	copyFail = &pgproto3.CopyFail{Message: "crossfade: the source's COPY did not end well"}
)

// feed sends what the relay gives, and how it ended. It writes to the socket directly: the
// connection's own send buffer belongs to the goroutine that reads, which may close the connection
// at any time. Its errors are those of the socket.
func feed(ctx context.Context, conn net.Conn, r *Relay, each bool) error {
	for {
		buf, err := r.Next()
		switch {
		case err == ErrReaderGone: // the server has answered already, with an error
			return nil
		case err == io.EOF && each:
			return nil
		case err == io.EOF:
			return send(conn, copyDone)
		case err != nil:
			return send(conn, copyFail)
		}
		if !r.Limit.Wait(ctx, len(buf)-headerBytes, r.gone) && ctx.Err() == nil {
			return nil // the server has answered already
		}
		_, err = conn.Write(buf)
		r.recycle(buf)
		if err != nil {
			return err
		}
	}
}

func send(conn net.Conn, msg pgproto3.FrontendMessage) error {
	b, err := msg.Encode(nil)
	if err == nil {
		_, err = conn.Write(b)
	}
	return err
}

// copyReply reads the server's messages until it is ready for the next statement.
func copyReply(conn *pgconn.PgConn) (rows []int64, err error) {
	var failed error
	for {
		msg, err := conn.ReceiveMessage(context.Background())
		if err != nil {
			return nil, fmt.Errorf("read the answer to COPY: %w", broken(conn, err))
		}
		switch msg := msg.(type) {
		case *pgproto3.CommandComplete:
			if n, ok := copyTag(msg); ok {
				rows = append(rows, n)
			}
		case *pgproto3.ErrorResponse:
			failed = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.ReadyForQuery:
			return rows, failed
		}
	}
}

// cut closes the socket when ctx ends, until ended is called with the outcome, which it completes.
// A deadline could be taken back by one goroutine while the other one still writes.
func cut(ctx context.Context, conn *pgconn.PgConn) (ended func(error) error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().Close() })
	return func(err error) error {
		if !stop() && err == nil || err != nil && ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		return err
	}
}

// broken closes a connection whose protocol state is unknown.
func broken(conn *pgconn.PgConn, err error) error {
	_ = conn.Conn().Close()
	return err
}
