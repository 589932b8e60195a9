package copy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// copyIn runs a COPY … FROM STDIN on conn and feeds it from r, one message and
// one write per buffer. pgconn's own CopyFrom writes at most 64 KiB at a time.
// The copy is ended with CopyDone only if the relay ended with io.EOF.
//
// The server's error is returned as *pgconn.PgError and leaves conn usable; after
// any other error, and after the end of ctx, conn is closed.
func copyIn(ctx context.Context, conn *pgconn.PgConn, sql string, r *relay) (rows int64, err error) {
	defer r.readerGone()
	// The whole exchange is cut by closing the socket: a deadline could be taken
	// back by one goroutine while the other one still writes.
	stop := context.AfterFunc(ctx, func() { _ = conn.Conn().Close() })
	defer func() {
		if !stop() && err == nil || err != nil && ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
	}()
	fe := conn.Frontend()
	fe.SendQuery(&pgproto3.Query{String: sql})
	if err := fe.Flush(); err != nil {
		return 0, fmt.Errorf("send COPY: %w", broken(conn, err))
	}
	ready, rows, err := copyReply(conn, true)
	if !ready {
		return rows, err
	}

	type reply struct {
		rows int64
		err  error
	}
	replied := make(chan reply, 1)
	go func() {
		_, rows, err := copyReply(conn, false)
		r.readerGone()
		replied <- reply{rows, err}
	}()
	if err := feed(ctx, conn.Conn(), r); err != nil {
		// A failed write closes the socket, so that the reader ends as well; what
		// the server said before that is the better explanation.
		_ = conn.Conn().Close()
		if got := <-replied; got.err != nil {
			return 0, errors.Join(got.err, err)
		}
		return 0, fmt.Errorf("send rows: %w", broken(conn, err))
	}
	got := <-replied
	return got.rows, got.err
}

// The messages that end the data (PostgreSQL documentation 55.7).
var (
	copyDone = &pgproto3.CopyDone{}
	copyFail = &pgproto3.CopyFail{Message: "crossfade: the source's COPY did not end well"}
)

// feed sends what the relay gives, and how it ended. It writes to the socket
// itself: the connection's own send buffer belongs to the goroutine that reads,
// which may close the connection at any time. Its errors are those of the socket.
func feed(ctx context.Context, conn net.Conn, r *relay) error {
	for {
		buf, err := r.next()
		switch {
		case err == errReaderGone: // the server has answered already, with an error
			return nil
		case err == io.EOF:
			return send(conn, copyDone)
		case err != nil:
			return send(conn, copyFail)
		}
		if !r.limit.Wait(ctx, len(buf)-headerBytes, r.gone) && ctx.Err() == nil {
			return nil // the server has answered already
		}
		buf[0] = 'd'
		binary.BigEndian.PutUint32(buf[1:headerBytes], uint32(len(buf)-1))
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

// copyReply reads the server's messages: with start set until it asks for the
// data, else until it is ready for the next statement.
func copyReply(conn *pgconn.PgConn, start bool) (ready bool, rows int64, err error) {
	var failed error
	for {
		msg, err := conn.ReceiveMessage(context.Background())
		if err != nil {
			return false, 0, fmt.Errorf("read the answer to COPY: %w", broken(conn, err))
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyInResponse:
			if start {
				return true, 0, nil
			}
		case *pgproto3.CommandComplete:
			rows = pgconn.NewCommandTag(string(msg.CommandTag)).RowsAffected()
		case *pgproto3.ErrorResponse:
			failed = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.ReadyForQuery:
			return false, rows, failed
		}
	}
}

// broken closes a connection whose protocol state is not known any more.
func broken(conn *pgconn.PgConn, err error) error {
	_ = conn.Conn().Close()
	return err
}
