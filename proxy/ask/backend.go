package ask

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"

	"crossfade/internal/base/lists"
	"crossfade/proxy/state"
)

// idleQuery asks what a backend does. It is not qualified by name alone: the
// connection is our own, but its search_path is the role's.
const idleQuery = `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity` +
	` WHERE pid OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND state OPERATOR(pg_catalog.=) 'idle'`

// Idle reports whether another backend of the same role waits for a request outside a transaction.
func Idle(ctx context.Context, l *state.Link, pid int32) (bool, error) {
	return found(ctx, l, idleQuery, pid)
}

// found reports whether a query, which counts, finds the backend of that number.
func found(ctx context.Context, l *state.Link, query string, pid int32) (there bool, err error) {
	l.Command("look at pg_stat_activity", query, [][]byte{strconv.AppendInt(nil, int64(pid), 10)}, func(cols [][]byte) error {
		if len(cols) != 1 || len(cols[0]) != 8 {
			return errors.New("rows of another form")
		}
		there = cols[0][7] != 0
		return nil
	})
	err = l.Flush(ctx)
	return there, err
}

// busyQuery asks whether a backend is there and does not wait for a request.
const busyQuery = `SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity` +
	` WHERE pid OPERATOR(pg_catalog.=) $1::pg_catalog.int4 AND (state IS NULL OR state OPERATOR(pg_catalog.=) 'active')`

// Busy reports whether another backend runs something, or may: what another role's does not
// everybody may see.
func Busy(ctx context.Context, l *state.Link, pid int32) (bool, error) {
	return found(ctx, l, busyQuery, pid)
}

// blockingQuery asks which backends each of some backends waits for.
const blockingQuery = `SELECT w.pid, b.pid FROM pg_catalog.unnest($1::pg_catalog.int4[]) AS w(pid),` +
	` pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b(pid)`

// Blocking returns, for each of the backends that waits for a lock, the backends that
// it waits for. The server's lock table is stopped for a moment for each of pids.
func Blocking(ctx context.Context, l *state.Link, pids []int32) (map[int32][]int32, error) {
	list := lists.Map(pids, func(pid int32) string { return strconv.Itoa(int(pid)) })
	blocking := map[int32][]int32{}
	l.Command("look at pg_blocking_pids", blockingQuery, [][]byte{state.ArrayLiteral(list)}, func(cols [][]byte) error {
		if len(cols) != 2 || len(cols[0]) != 4 || len(cols[1]) != 4 {
			return errors.New("rows of another form")
		}
		waiter, holder := int32(binary.BigEndian.Uint32(cols[0])), int32(binary.BigEndian.Uint32(cols[1]))
		blocking[waiter] = append(blocking[waiter], holder)
		return nil
	})
	return blocking, l.Flush(ctx)
}

// preparedQuery returns the oldest prepared transaction of the database.
const preparedQuery = `SELECT pg_catalog.concat('transaction ', pg_catalog.quote_literal(x.gid), ', prepared by ', x.owner)` +
	` FROM pg_catalog.pg_prepared_xacts AS x WHERE x.database OPERATOR(pg_catalog.=) pg_catalog.current_database() ORDER BY x.prepared LIMIT 1`

// PreparedTransaction names the oldest prepared transaction of the database, "" for none.
func PreparedTransaction(ctx context.Context, l *state.Link) (string, error) {
	name := ""
	l.Command("look for prepared transactions", preparedQuery, nil, func(cols [][]byte) error {
		if len(cols) != 1 {
			return errors.New("rows of another form")
		}
		name = string(cols[0])
		return nil
	})
	err := l.Flush(ctx) // which sets the name
	return name, err
}
