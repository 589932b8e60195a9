package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/walk"
)

// receiver is the decoding state of one replication session.
type receiver struct {
	*Reader
	dec      *Decoder
	asm      assembler
	bytes    slab[byte]
	msg      Message
	pings    streak
	skipping bool // within a transaction that was handed out before
	partial  bool // a part of a transaction was handed out, its last part was not
}

// errStopping ends a session whose source is shutting down. Its walsender does not
// end before all it has sent is confirmed, and asks for that without a pause. What
// is held back after a marker may never be, so we hang up: the slot keeps our place.
var errStopping = errors.New("source is shutting down and waits for what is not applied yet")

const (
	// pingGap is the longest time between two questions of one streak. A source
	// that is not shutting down asks at half of wal_sender_timeout at the earliest.
	pingGap = 500 * time.Millisecond
	// stopPatience is how long a source that shuts down may wait for us: long
	// enough to apply what is on its way.
	stopPatience = 3 * time.Second
)

// streak is a run of the source's questions how far we are.
type streak struct{ first, last time.Time }

// lasts takes one question and reports whether they come without a pause for
// longer than the patience.
func (s *streak) lasts(now time.Time) bool {
	if now.Sub(s.last) > pingGap {
		s.first = now
	}
	s.last = now
	return now.Sub(s.first) > stopPatience
}

// receive reads messages until the connection or ctx ends.
func (s *receiver) receive(ctx context.Context, conn *pgconn.HijackedConn) error {
	for {
		msg, err := conn.Frontend.Receive()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("receive from source: %w", err)
		}
		s.heard.Store(time.Now().UnixMicro())
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			if err := s.copyData(ctx, msg.Data); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("replicate from slot %s: %w", s.cfg.Slot, pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return errors.New("source ended the stream")
		default:
			return malformed("unexpected %T in the stream", msg)
		}
	}
}

// copyData takes the payload of one CopyData, which is valid until it returns.
func (s *receiver) copyData(ctx context.Context, p []byte) error {
	c := cursor{walk.Bytes{Rest: p}}
	switch kind := c.Byte(); kind {
	case 'w': // XLogData: start, end of WAL, clock, message
		_ = c.Uint64()
		end := c.lsn()
		_ = c.Uint64()
		if c.Bad {
			return malformed("XLogData is cut short")
		}
		s.serverSaid(end)
		return s.message(ctx, c.Rest)
	case 'k': // keepalive: end of WAL, clock, whether it wants an answer
		end := c.lsn()
		_ = c.Uint64()
		reply := c.Byte()
		if c.Bad {
			return malformed("keepalive is cut short")
		}
		s.serverSaid(end)
		if reply != 0 {
			if s.pings.lasts(time.Now()) && s.Confirmed() < end {
				return errStopping
			}
			select {
			case s.nudge <- struct{}{}:
			default:
			}
		}
		return s.idle(ctx, end)
	default:
		return malformed("copy data of kind %q", kind)
	}
}

func (s *receiver) serverSaid(end pg.LSN) {
	if uint64(end) > s.serverEnd.Load() {
		s.serverEnd.Store(uint64(end))
	}
}

func (s *receiver) message(ctx context.Context, p []byte) error {
	own := s.bytes.take(len(p), byteSlab)
	copy(own, p)
	if err := s.dec.Decode(own, &s.msg); err != nil {
		return err
	}
	// START_REPLICATION begins at the slot's position, which may be earlier than ours.
	if s.msg.Kind == KindBegin && s.msg.LSN < s.emitted {
		s.skipping = true
	}
	if s.skipping {
		s.skipping = s.msg.Kind != KindCommit
		return nil
	}
	part, err := s.asm.add(&s.msg, len(own))
	if part == nil || err != nil {
		return err
	}
	end := part.EndLSN
	if err := s.hand(ctx, part); err != nil {
		return err
	}
	s.partial = end == 0
	if end != 0 {
		s.emitted = end
		s.received.Store(uint64(end))
	}
	return nil
}

// idle hands out the position of a keepalive when no transaction is open: all that committed before
// it has been received, since the walsender decodes and sends in order.
func (s *receiver) idle(ctx context.Context, end pg.LSN) error {
	if s.asm.open() || s.skipping || end <= s.emitted || time.Since(s.lastIdle) < s.cfg.IdleInterval {
		return nil
	}
	if err := s.hand(ctx, &Part{Idle: end}); err != nil {
		return err
	}
	s.lastIdle, s.emitted = time.Now(), end
	s.received.Store(uint64(end))
	return nil
}

// statusUpdate encodes a CopyData with a standby status update (PostgreSQL documentation 55.4). All
// three positions are given: with a zero one the server would take another in its place.
func statusUpdate(write, flush, apply pg.LSN, now time.Time, reply bool) []byte {
	b := make([]byte, 0, 39)
	b = append(b, 'd')
	b = binary.BigEndian.AppendUint32(b, 38)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, uint64(write))
	b = binary.BigEndian.AppendUint64(b, uint64(flush))
	b = binary.BigEndian.AppendUint64(b, uint64(apply))
	b = binary.BigEndian.AppendUint64(b, pgMicros(now))
	if reply {
		return append(b, 1)
	}
	return append(b, 0)
}

// feedback reports to the source at every interval and when nudged, whatever
// the receiving goroutine waits for, and gives a silent source up.
func (r *Reader) feedback(ctx context.Context, conn net.Conn) error {
	tick := time.NewTicker(r.cfg.StatusInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = r.report(conn, lastWordLimit, false) // the source may be gone as well
			return ctx.Err()
		case <-tick.C:
		case <-r.nudge:
		}
		silent := time.Duration(0)
		if !r.blocked.Load() {
			silent = time.Since(time.UnixMicro(r.heard.Load()))
		}
		if silent > r.cfg.SilenceLimit {
			return fmt.Errorf("hear from source: nothing for %s", silent.Round(time.Second))
		}
		if err := r.report(conn, writeLimit, silent > r.cfg.SilenceLimit/4); err != nil {
			return err
		}
	}
}

func (r *Reader) report(conn net.Conn, limit time.Duration, reply bool) error {
	durable := r.Confirmed()
	write := max(durable, pg.LSN(r.received.Load()))
	err := conn.SetWriteDeadline(time.Now().Add(limit))
	if err == nil {
		_, err = conn.Write(statusUpdate(write, durable, durable, time.Now(), reply))
	}
	return pg.Wrap(err, "report to source")
}
