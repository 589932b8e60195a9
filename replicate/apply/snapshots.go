package apply

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// LoadSnapshots reads, from the target, the snapshot that each relation was
// copied under, by the relation's oid on the source.
func LoadSnapshots(ctx context.Context, conn *pgx.Conn) (map[uint32]pg.Snapshot, error) {
	rows, _ := conn.Query(ctx, `SELECT relid::int8, nsp, rel, snapshot FROM crossfade.relation WHERE snapshot IS NOT NULL`)
	snapshots := map[uint32]pg.Snapshot{}
	var relid int64
	var name pg.Name
	var text string
	_, err := pgx.ForEachRow(rows, []any{&relid, &name.Schema, &name.Name, &text}, func() error {
		snap, err := pg.ParseSnapshot(text)
		if err != nil {
			return fmt.Errorf("relation %s: %w", name.Display(), err)
		}
		snapshots[uint32(relid)] = snap
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read snapshots of the copy: %w", err)
	}
	return snapshots, nil
}
