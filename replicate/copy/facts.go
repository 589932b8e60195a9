package copy

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// facts are what the source says of a relation under a snapshot.
type facts struct {
	filenode uint32 // the file that the snapshot sees
	bytes    int64  // of the table with its TOAST
	blocks   int64  // of the main fork
	rows     int64  // at the last VACUUM or ANALYZE; 0 if unknown
	heap     bool   // block ranges mean something
}

// factsTimeout bounds one reading of the facts. The sizes of a hundred thousand tables are read in
// seconds; a server that needs longer has stopped answering.
const factsTimeout = 5 * time.Minute

// factsQuery takes the measures of relations. Its two gaps are for the sizes.
const factsQuery = `SELECT c.oid, c.relfilenode, coalesce(%s, 0)::bigint, coalesce(%s, 0)::bigint, greatest(c.reltuples, 0)::bigint,
		coalesce((SELECT a.amname = 'heap' FROM pg_catalog.pg_am a WHERE a.oid = c.relam), true)
	FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1)`

const (
	// The exact sizes need a lock on each table for an instant.
	exactBytes  = "pg_catalog.pg_table_size(c.oid)"
	exactBlocks = "pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint"
	// The sizes at the last VACUUM or ANALYZE need none.
	knownBytes  = "greatest(c.relpages, 0)::bigint * pg_catalog.current_setting('block_size')::bigint"
	knownBlocks = "greatest(c.relpages, 0)"
)

// readFacts reads what the snapshot sees of the relations, in a transaction of its own on conn.
// pg_class is read as any table, so that its relfilenode is the file of the snapshot's time; a
// rewrite since then shows when the current one is compared with it. Where a table is locked by the
// application, the sizes are those of its last VACUUM: they only shape the chunks.
func readFacts(ctx context.Context, conn *pgx.Conn, h *snapshot.Holder, oids []uint32, lockTimeout time.Duration) (map[uint32]facts, error) {
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	all, err := measure(ctx, conn, h, oids, lockTimeout, exactBytes, exactBlocks)
	if pg.IsCode(err, pg.CodeLockNotAvailable) {
		all, err = measure(ctx, conn, h, oids, lockTimeout, knownBytes, knownBlocks)
	}
	if err != nil {
		return nil, fmt.Errorf("read sizes of tables: %w", err)
	}
	return all, nil
}

func measure(ctx context.Context, conn *pgx.Conn, h *snapshot.Holder, oids []uint32, lockTimeout time.Duration, bytes, blocks string) (map[uint32]facts, error) {
	if err := h.Begin(ctx, conn, lockTimeout); err != nil {
		return nil, err
	}
	all := make(map[uint32]facts, len(oids))
	rows, err := conn.Query(ctx, fmt.Sprintf(factsQuery, bytes, blocks), oids)
	if err == nil {
		var oid uint32
		var f facts
		_, err = pgx.ForEachRow(rows, []any{&oid, &f.filenode, &f.bytes, &f.blocks, &f.rows, &f.heap}, func() error {
			all[oid] = f
			return nil
		})
	}
	if _, end := conn.Exec(ctx, "ROLLBACK"); err == nil {
		err = end
	}
	return all, err
}
