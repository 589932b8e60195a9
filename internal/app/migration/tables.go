package migration

import (
	"context"
	"slices"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/replicate/copy"
	"crossfade/replicate/verify"
	"crossfade/schema/catalog"
)

// Tables lists what a comparison covers.
func (m *Schema) Tables() []verify.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.catalog == nil {
		return nil
	}
	var out []verify.Table
	var oids []uint32
	for _, r := range m.catalog.Relations {
		if r.Kind != catalog.KindTable || r.Persistence != catalog.Permanent { // what is unlogged is in no stream
			continue
		}
		t := verify.Table{Name: r.Name(), Key: r.Identity}
		for _, c := range r.Columns {
			if c.Generated != 'v' {
				t.Columns = append(t.Columns, c.Name)
			}
		}
		out, oids = append(out, t), append(oids, r.OID)
	}
	return m.together(out, oids)
}

// Sizes are the sizes that the tables had when the catalog was read.
func (m *Schema) Sizes() map[pg.Name]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	sizes := map[pg.Name]int64{}
	if m.catalog != nil {
		for _, r := range m.catalog.Relations {
			sizes[r.Name()] = r.Bytes
		}
	}
	return sizes
}

// routed says of each table that is copied whether its rows go through a partitioned
// table above it, since the target may route them to another leaf than the source
// did. It asks the tables of the target, which must be there.
func (m *Rows) routed(ctx context.Context, tables []copy.Table) error {
	partitioned := func(r *catalog.Relation) bool { return r.Kind == catalog.KindPartitioned }
	if !slices.ContainsFunc(m.schema.catalog.Relations, partitioned) {
		return nil
	}
	conn, err := m.task.ConnectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(conn)
	there, err := catalog.Read(ctx, conn)
	if err != nil {
		return err
	}
	routes := m.schema.catalog.RoutesTo(there)
	told := map[*catalog.Relation]bool{}
	for i, t := range tables {
		route, ok := routes[t.OID]
		if !ok {
			continue
		}
		tables[i].Through = route.Via.Name()
		if !told[route.Via] {
			told[route.Via] = true
			m.task.Log.Info().Str("table", route.Via.Name().Display()).Str("reason", route.Why).Msg("rows of its partitions are put through it: the target may route them otherwise")
		}
	}
	return nil
}

// SetRoutes keeps what the journal says of them, by oid on the source.
func (m *Schema) SetRoutes(routes map[uint32]pg.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.routes = routes
}

// together makes one table of the leaves that are written through one, since a row may
// lie in another of them on the other side. Called with the lock held.
func (m *Schema) together(tables []verify.Table, oids []uint32) []verify.Table {
	var out []verify.Table
	at := map[pg.Name]int{}
	for i, t := range tables {
		via, ok := m.routes[oids[i]]
		if !ok {
			out = append(out, t)
			continue
		}
		if _, ok := at[via]; !ok {
			at[via] = len(out)
			out = append(out, verify.Table{Name: via, Columns: t.Columns, Key: t.Key})
		}
		whole := &out[at[via]]
		if whole.Leaves = append(whole.Leaves, t.Name); !slices.Equal(whole.Key, t.Key) {
			whole.Key = nil // leaves that name rows otherwise: the whole row has to do
		}
	}
	return out
}
