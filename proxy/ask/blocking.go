package ask

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"

	"crossfade/internal/base/lists"
	"crossfade/proxy/state"
)

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
