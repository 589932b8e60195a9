package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"crossfade/proxy/session"
)

// A transaction that was prepared holds its locks until its COMMIT PREPARED, which any
// session may send, and which is no part of a transaction: at the closed gate it would be
// held, and the fence would wait for it. So while sessions drain, statements that end a
// prepared transaction go on, and the drain waits until none is left.

// preparedPoll is how often a drain looks whether a prepared transaction has ended.
const preparedPoll = 10 * time.Millisecond

// twoPhase counts the prepared transactions of the clients. Called with mu locked.
func (m *memory) twoPhase(tag []byte) {
	switch string(tag) {
	case "PREPARE TRANSACTION":
		m.p.prepared.Add(1)
	case "COMMIT PREPARED", "ROLLBACK PREPARED":
		m.p.prepared.Add(-1)
	}
}

// finishing returns the length of the unit that p begins with, if all that it does is to
// end a prepared transaction and the drain lets it, else 0. Called with mu locked.
func (r *relay) finishing(p []byte) int {
	if !r.mu.gate || r.mu.wanted || !r.p.draining.Load() || !r.mu.tracker.Boundary() {
		return 0
	}
	n := firstUnit(p)
	if n == 0 || !endsPrepared(p[:n]) {
		return 0
	}
	return n
}

// endsPrepared reports whether a unit is one statement that ends a prepared transaction.
func endsPrepared(unit []byte) bool {
	parses := 0
	for len(unit) >= headLen {
		n := int(binary.BigEndian.Uint32(unit[1:])) + 1 // within the unit: firstUnit has walked it
		body := unit[headLen:n]
		switch unit[0] {
		case 'Q':
			return session.EndsPrepared(string(body))
		case 'P':
			_, text, _ := bytes.Cut(body, []byte{0})
			text, _, _ = bytes.Cut(text, []byte{0})
			if parses++; parses > 1 || !session.EndsPrepared(string(text)) {
				return false
			}
		case 'B', 'D', 'E', 'C', 'H', 'S':
		default:
			return false
		}
		unit = unit[n:]
	}
	return parses == 1
}

// twoPhase waits until no transaction of the database is prepared, where a client has
// prepared one that it has not ended.
func (d *drain) twoPhase(ctx context.Context) (left bool, err error) {
	if d.p.prepared.Load() <= 0 || len(d.list) == 0 {
		d.prepared = ""
		return false, nil
	}
	if d.prepared == "" {
		d.prepared = "a prepared transaction" // until it is known which
	}
	link, err := d.beside(ctx, d.list[0])
	if err != nil {
		return false, fmt.Errorf("look for prepared transactions: %w", err)
	}
	found, err := link.PreparedTransaction(ctx)
	if err != nil {
		return false, err
	}
	if d.prepared = found; found == "" {
		d.p.prepared.Store(0)
		return false, nil
	}
	t := time.NewTimer(preparedPoll)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return true, ctx.Err()
}
