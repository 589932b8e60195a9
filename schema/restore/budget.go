package restore

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// budget is the memory that index builds may take on the target at once: what
// as many sessions as we have would take by the target's own configuration. A
// build that is alone gets up to half of what is free, so that it sorts in memory
// and with more processes (32 MB each, PostgreSQL documentation 19.4).
type budget struct {
	each  int64 // maintenance_work_mem in bytes
	total int64
	used  int64
}

func readBudget(ctx context.Context, conn *pgx.Conn, sessions int) (*budget, error) {
	var kib int64
	err := conn.QueryRow(ctx, `SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem'`).Scan(&kib)
	if err != nil {
		return nil, fmt.Errorf("read maintenance_work_mem: %w", err)
	}
	return &budget{each: kib << 10, total: kib << 10 * int64(sessions)}, nil
}

// grant gives memory to a build that can use need bytes of it, while others of
// its kind wait to begin now. ok is false when it has to wait for another one's
// end. The memory is given back with release.
func (b *budget) grant(need int64, others int) (bytes int64, ok bool) {
	least := min(need, b.each)
	if b.used > 0 && b.used+least > b.total {
		return 0, false
	}
	spare := b.total - b.used - int64(others)*b.each
	bytes = max(least, min(need, spare/2))
	b.used += bytes
	return bytes, true
}

func (b *budget) release(bytes int64) { b.used -= bytes }

// setting is what goes before the statement of a build.
func (b *budget) setting(bytes int64) string {
	if bytes <= b.each {
		return ""
	}
	return "SET LOCAL maintenance_work_mem = '" + strconv.FormatInt(bytes>>10, 10) + "kB';\n"
}
