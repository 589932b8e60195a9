package migration

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/restore"
)

// Keys are the foreign keys: those that the copy makes, and the rows that they forbid.
type Keys struct {
	task     *Task
	findings *Findings
	schema   *Schema
}

// OrphanRest is the pause of the status after it has searched for rows that violate foreign keys.
const OrphanRest = 20 * time.Second

// AskForeignKeys searches the target, which no application reads yet, for rows that violate valid
// foreign keys of the source: the validation after a switch would fail. That does not stop a
// cutover, since the source works with such rows. Keys whose tables are too large to be scanned
// within the limit are left to the validation.
func (m *Keys) AskForeignKeys(ctx context.Context, _, target *pgx.Conn) ([]watch.Notice, error) {
	m.task.mu.Lock()
	db := m.schema.catalog
	m.task.mu.Unlock()
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

const againAfter = "crossfade run tries again by itself; or crossfade finish --force leaves it as it is"

// Unfinished words refusals. One foreign key of a partitioned table may be refused several times,
// and is reported once.
func (m *Keys) Unfinished(ctx context.Context, conn *pgx.Conn, refused []*restore.Error) []control.Blocker {
	var out []control.Blocker
	told := map[uint32]bool{}
	for _, r := range refused {
		key := r.Statement.Key
		if key != 0 && told[key] {
			continue
		}
		told[key] = true
		b := control.Blocker{Code: "not_whole", Detail: "after the switch the target has refused " + strings.TrimSuffix(r.Finding.String(), "; "+r.Finding.Remedy),
			Remedy: "remove the cause; " + againAfter}
		if sql := strings.Join(strings.Fields(r.Statement.SQL), " "); sql != "" && key == 0 {
			b.Remedy = "remove the cause, or on the target: " + strings.TrimSuffix(sql, ";") + "; " + againAfter
		}
		if pg.IsCode(r.Err, pg.CodeForeignKeyViolation) {
			if o, ok := m.orphansOf(ctx, conn, key); ok {
				b.Detail = "after the switch foreign key " + o.Key + " could not be validated: " + o.String()
				b.Remedy = "on the target, add the rows that are missing, or remove those that lack them: " + o.Remove + "; " + againAfter
			}
		}
		out = append(out, b)
	}
	return out
}

// orphansOf searches for rows that violate a key. ok is false if none are found.
func (m *Keys) orphansOf(ctx context.Context, conn *pgx.Conn, key uint32) (o restore.Orphans, ok bool) {
	db, k := m.schema.foreignKey(key)
	if k == nil {
		return o, false
	}
	ctx, cancel := context.WithTimeout(ctx, orphanPatience)
	defer cancel()
	err := watch.WithTimeLimit(ctx, conn, orphanPatience, func() (err error) {
		o, err = restore.FindOrphans(ctx, conn, db, k)
		return err
	})
	return o, err == nil && len(o.Examples) > 0
}

func (m *Schema) foreignKey(oid uint32) (*catalog.Database, *catalog.ForeignKey) {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	if m.catalog == nil {
		return nil, nil
	}
	i := slices.IndexFunc(m.catalog.ForeignKeys, func(k catalog.ForeignKey) bool { return k.OID == oid })
	if i < 0 {
		return m.catalog, nil
	}
	return m.catalog, &m.catalog.ForeignKeys[i]
}

// orphanPatience bounds one search for rows that violate a foreign key.
const orphanPatience = time.Minute
