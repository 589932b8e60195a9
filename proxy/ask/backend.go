package ask

import (
	"context"
	"errors"
	"strconv"

	"crossfade/proxy/state"
)

// idleQuery asks what a backend does. It is not qualified by name alone: the
// connection is our own, but its search_path is the role's.
const idleQuery = `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity` +
	` WHERE pid OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND state OPERATOR(pg_catalog.=) 'idle'`

// Idle reports whether another backend of the same role waits for a request outside a transaction.
func Idle(ctx context.Context, l *state.Link, pid int32) (bool, error) {
	idle := false
	l.Command("look at pg_stat_activity", idleQuery, [][]byte{strconv.AppendInt(nil, int64(pid), 10)}, func(cols [][]byte) error {
		if len(cols) != 1 || len(cols[0]) != 8 {
			return errors.New("rows of another form")
		}
		idle = cols[0][7] == 1
		return nil
	})
	return idle, l.Flush(ctx)
}

// busyQuery asks whether a backend is there and does not wait for a request.
const busyQuery = `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity` +
	` WHERE pid OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND (state IS NULL OR state OPERATOR(pg_catalog.=) 'active')`

// Busy reports whether another backend runs something, or may: what another role's does not
// everybody may see.
func Busy(ctx context.Context, l *state.Link, pid int32) (bool, error) {
	busy := false
	l.Command("look at pg_stat_activity", busyQuery, [][]byte{strconv.AppendInt(nil, int64(pid), 10)}, func(cols [][]byte) error {
		if len(cols) != 1 || len(cols[0]) != 8 {
			return errors.New("rows of another form")
		}
		busy = cols[0][7] != 0
		return nil
	})
	return busy, l.Flush(ctx)
}
