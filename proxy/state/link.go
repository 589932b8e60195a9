package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"time"

	"crossfade/proxy/wire"
)

// maxBody is the largest message that a probe accepts, in bytes. It bounds the
// text of a prepared statement; nobody prepares more than this.
const maxBody = 64 << 20

// longAgo as a deadline ends what waits on a connection.
var longAgo = time.Unix(1, 0)

// Link drives a server connection that is at a boundary and that no other code reads or writes
// meanwhile. It never sends a simple Query and never touches the unnamed statement but to replay
// it. Not safe for concurrent use.
//
// An error that wraps *wire.ServerError leaves the connection at a boundary. After any other error
// the link is Broken and the connection must be closed.
type Link struct {
	conn   net.Conn
	reader *wire.Reader
	broken error

	// Params are the settings that the server reports, kept up to date.
	Params map[string]string
	// Async gets the messages that came of themselves (NotificationResponse, NoticeResponse,
	// ParameterStatus), in order. The body is valid during the call only. May be nil.
	Async func(wire.Frame)

	// Prepared are the statements that replays have made here, by name; "" is the unnamed one.
	Prepared map[string]Made

	out   []byte
	units []unit
}

// Made is a prepared statement that a replay has made.
type Made struct {
	Text  string
	Shape *Shape
}

// unit is what one ReadyForQuery ends.
type unit struct {
	labels []string // what each command of it does, for errors; one at least
	row    func(cols [][]byte) error
	// refused, if set, says whether the unit fails when the server refuses it.
	refused func(*wire.ServerError) error
	// described, if set, gets the answers to Describe; done is called at the end.
	described func(wire.Frame) error
	done      func()
}

// NewLink returns a link over a connection. leftover is what was read from it already. params are
// copied.
func NewLink(conn net.Conn, leftover []byte, params map[string]string) *Link {
	var r io.Reader = conn
	if len(leftover) > 0 {
		r = io.MultiReader(bytes.NewReader(leftover), conn)
	}
	l := &Link{conn: conn, reader: wire.NewReader(r, maxBody), Params: map[string]string{}}
	maps.Copy(l.Params, params)
	return l
}

// Conn returns the connection.
func (l *Link) Conn() net.Conn { return l.conn }

// Broken returns why the connection can no longer be used, nil while it can.
func (l *Link) Broken() error { return l.broken }

// Leftover returns bytes that were read after the last reply: the next reader of the connection
// must see them first. Own memory.
func (l *Link) Leftover() []byte { return append([]byte(nil), l.reader.Buffered()...) }

// add queues a unit; frames must end in exactly one Sync.
func (l *Link) add(u unit, frames func(dst []byte) []byte) {
	l.out = frames(l.out)
	l.units = append(l.units, u)
}

// Limits of what is sent ahead of reading replies: more could fill both
// directions' buffers, and each end would wait for the other to read.
const (
	maxUnitsAhead = 64
	maxBytesAhead = 32 << 10
)

// full reports that the queued units should be sent before more are queued.
func (l *Link) full() bool { return len(l.units) >= maxUnitsAhead || len(l.out) >= maxBytesAhead }

// Flush sends the queued units and reads their replies. The first error of the
// server is returned once all replies are in.
func (l *Link) Flush(ctx context.Context) error {
	units := l.units
	out := l.out
	l.units, l.out = l.units[:0], l.out[:0]
	if len(units) == 0 {
		return nil
	}
	if l.broken != nil {
		return l.broken
	}
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(longAgo) })
	err := l.exchange(out, units)
	if !stop() && err == nil {
		// The deadline was or is being set: the connection cannot be used safely.
		err = ctx.Err()
		l.broken = err
	}
	if l.broken != nil && ctx.Err() != nil {
		return fmt.Errorf("wait for the server: %w", ctx.Err())
	}
	return err
}

func (l *Link) exchange(out []byte, units []unit) error {
	if _, err := l.conn.Write(out); err != nil {
		l.broken = fmt.Errorf("write to the server: %w", err)
		return l.broken
	}
	var first error
	for _, u := range units {
		err := l.reply(u)
		if l.broken != nil {
			return l.broken
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// reply reads one unit's replies up to its ReadyForQuery.
func (l *Link) reply(u unit) error {
	var failed error
	done := 0
	for {
		f, err := l.frame()
		if err != nil {
			return err
		}
		switch f.Type {
		case 'Z':
			status, err := wire.DecodeReadyForQuery(f.Body)
			if u.done != nil && err == nil {
				u.done()
			}
			if err == nil && status != 'I' {
				err = fmt.Errorf("transaction status %q after a probe", status)
			}
			if err != nil {
				l.broken = err
				return err
			}
			return failed
		case 'E':
			e, err := wire.DecodeError(f.Body)
			if err == nil && e.Fatal() {
				err = e
			}
			if err != nil {
				l.broken = err
				return err
			}
			var why error = e
			if u.refused != nil {
				why = u.refused(e)
			}
			if why != nil && failed == nil {
				failed = &StepError{Step: u.label(done), Err: why}
			}
		case 'D':
			if u.row == nil || failed != nil {
				continue
			}
			cols, err := wire.DecodeDataRow(nil, f.Body)
			if err == nil {
				err = u.row(cols)
			}
			if err != nil {
				failed = &StepError{Step: u.label(done), Err: err}
			}
		case 't', 'T':
			if u.described == nil || failed != nil {
				continue
			}
			if err := u.described(f); err != nil {
				failed = &StepError{Step: u.label(done), Err: err}
			}
		case 'C', 'I':
			done++
		}
	}
}

// frame returns the next message that answers us.
func (l *Link) frame() (wire.Frame, error) {
	for {
		f, err := l.reader.Next()
		if err != nil {
			l.broken = fmt.Errorf("read from the server: %w", err)
			return wire.Frame{}, l.broken
		}
		switch f.Type {
		case 'S':
			if p, err := wire.DecodeParameterStatus(f.Body); err == nil {
				l.Params[p.Name] = p.Value
			}
		case 'A', 'N':
		default:
			return f, nil
		}
		if l.Async != nil {
			l.Async(f)
		}
	}
}

func (u unit) label(i int) string {
	return u.labels[min(i, len(u.labels)-1)]
}

// StepError says which step of a capture or a replay the server refused. Its
// text holds names and the server's message or, for settings, the SQLSTATE only:
// the message of a refused setting quotes the value.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string {
	if se, ok := errors.AsType[*wire.ServerError](e.Err); ok && strings.HasPrefix(e.Step, settingLabel) {
		return e.Step + ": SQLSTATE " + se.Code
	}
	return e.Step + ": " + e.Err.Error()
}

func (e *StepError) Unwrap() error { return e.Err }
