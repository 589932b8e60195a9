package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"crossfade/internal/base/pg"
)

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
	if err := conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return fmt.Errorf("report to source: %w", err)
	}
	if _, err := conn.Write(statusUpdate(write, durable, durable, time.Now(), reply)); err != nil {
		return fmt.Errorf("report to source: %w", err)
	}
	return nil
}
