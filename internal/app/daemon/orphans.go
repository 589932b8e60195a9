package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/restore"
)

// orphanRest is how long the status leaves the foreign keys alone after it has looked for
// rows that they forbid.
const orphanRest = 20 * time.Second

// askForeignKeys looks on the target, which nobody else reads yet, for rows that valid foreign
// keys of the source forbid: the validation after a switch would fail. That stops no cutover,
// since the source lives with such rows. Keys whose tables are too large to be looked through
// within the limit are left to the validation.
func (m *migration) askForeignKeys(ctx context.Context, _, target *pgx.Conn) ([]watch.Notice, error) {
	m.mu.Lock()
	db := m.catalog
	m.mu.Unlock()
	if db == nil {
		return nil, nil
	}
	keys := slices.Clone(db.ForeignKeys)
	size := func(k catalog.ForeignKey) int64 {
		var n int64
		for _, oid := range []uint32{k.Table, k.Referenced} {
			if r := db.Relation(oid); r != nil {
				for _, leaf := range db.Leaves(r) {
					n += leaf.Bytes
				}
			}
		}
		return n
	}
	slices.SortStableFunc(keys, func(a, b catalog.ForeignKey) int { return int(min(max(size(a)-size(b), -1), 1)) })
	var found []watch.Notice
	end := time.Now().Add(watch.ScanPatience) // of all of them
	for i := range keys {
		k := &keys[i]
		if !k.Validated || k.Inherited != 0 {
			continue
		}
		if time.Until(end) <= 0 {
			break
		}
		var o restore.Orphans
		err := watch.WithTimeLimit(ctx, target, time.Until(end), func() (err error) {
			o, err = restore.FindOrphans(ctx, target, db, k)
			return err
		})
		switch {
		case pg.IsCode(err, pg.CodeQueryCanceled):
			return found, nil
		case err != nil && restore.RefusedForGood(err): // a table or column that was changed: another watcher tells it
			continue
		case err != nil:
			return nil, err
		case len(o.Examples) == 0:
			continue
		}
		remedy := "on the source: " + o.Remove
		if o.Accept != "" {
			remedy += "; or keep the rows, and have the key hold for new ones only: " + o.Accept
		}
		found = append(found, watch.Notice{Warns: true, Blocker: control.Blocker{Code: "foreign_key_orphans", Remedy: remedy,
			Detail: o.String() + "; after a switch the key could not be validated, and crossfade finish would refuse"}})
	}
	return found, nil
}
