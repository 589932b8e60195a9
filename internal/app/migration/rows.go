package migration

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy"
	"crossfade/replicate/stream"
	"crossfade/replicate/verify"
	"crossfade/schema/catalog"
)

// Rows is the copy of the tables' rows, and what is built on them.
type Rows struct {
	task     *Task
	findings *Findings
	schema   *Schema
	extras   *Extras

	copier *copy.Copier
	past   control.Copy // of earlier starts: restarts and repairs only
}

// Copying reports whether rows are being copied.
func (m *Rows) Copying() bool {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	return m.copier != nil && !m.task.Phase.AtLeast(journal.PhaseCopied)
}

// copyEvery is how often the figures of a copy are handed on.
const copyEvery = 200 * time.Millisecond

// Watch hands the copy's figures on until it is stopped.
func (m *Rows) Watch(ctx context.Context, onCopy func(control.Copy)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range retry.Every(ctx, copyEvery) {
			m.tell(onCopy)
		}
	}()
	return func() {
		cancel()
		<-done
		m.tell(onCopy)
	}
}

func (m *Rows) tell(onCopy func(control.Copy)) {
	if c := m.Copied(); onCopy != nil && c.TablesTotal > 0 {
		onCopy(c)
	}
}

// Copied returns how far the copy is.
func (m *Rows) Copied() control.Copy {
	m.task.mu.Lock()
	c := m.copier
	m.task.mu.Unlock()
	if c == nil {
		return control.Copy{}
	}
	p := c.Progress()
	return control.Copy{TablesDone: p.TablesDone, TablesTotal: p.TablesTotal, BytesDone: p.BytesDone, BytesTotal: p.BytesTotal, RowsDone: p.RowsDone,
		TablesRestarted: p.Restarts, TablesRepaired: p.Repaired, KeysRepaired: p.RepairedKeys}
}

// Whole are the figures of a copy that an earlier start has ended.
func (m *Rows) Whole() control.Copy {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	var c control.Copy
	if m.schema.catalog == nil || !m.task.Phase.AtLeast(journal.PhaseCopied) {
		return c
	}
	for _, r := range m.schema.catalog.Relations {
		if r.Kind == 'r' {
			c.TablesTotal++
			c.BytesTotal += r.Bytes
		}
	}
	c.TablesDone, c.BytesDone = c.TablesTotal, c.BytesTotal
	c.TablesRestarted, c.TablesRepaired, c.KeysRepaired = m.past.TablesRestarted, m.past.TablesRepaired, m.past.KeysRepaired
	return c
}

// copyStream is the slot that tells the copy what changed while a snapshot was
// lost, nil for a copy without a slot.
func (m *Rows) copyStream() *copy.Stream {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	t := m.task.Identity.Target
	if t.Consistent == 0 {
		return nil
	}
	return &copy.Stream{Snapshot: t.SlotSnapshot, Config: stream.Config{DSN: m.task.Source, Slot: t.Slot,
		Publication: journal.Publication, SystemID: t.SourceSystem, Start: t.Consistent}}
}

// followedKey returns the columns of a table whose values the stream gives for
// every change of a row and that name the row; nil if there are none. With the
// replica identity FULL these are of any unique index whose columns are never null.
func followedKey(r *catalog.Relation) []string {
	if r.Persistence != catalog.Permanent {
		return nil
	}
	if r.ReplicaIdentity != catalog.IdentityFull {
		return r.Identity
	}
	for _, u := range r.Unique {
		never := func(name string) bool {
			c := r.Column(name)
			return c == nil || !c.NotNull || c.Generated != 0
		}
		if !u.Partial && len(u.Columns) > 0 && !slices.ContainsFunc(u.Columns, never) {
			return u.Columns
		}
	}
	return nil
}

// LoadPast reads from the target what became of tables whose snapshot was lost.
func (m *Rows) LoadPast(ctx context.Context, target *pgx.Conn) error {
	var past control.Copy
	err := target.QueryRow(ctx, `SELECT coalesce(sum(restarts), 0), coalesce(sum(repairs), 0), coalesce(sum(repaired_keys), 0)::bigint FROM crossfade.relation`).
		Scan(&past.TablesRestarted, &past.TablesRepaired, &past.KeysRepaired)
	if err != nil {
		return fmt.Errorf("read what was repaired: %w", err)
	}
	m.task.mu.Lock()
	m.past = past
	m.task.mu.Unlock()
	return nil
}

// Tables lists what a comparison covers.
func (m *Schema) Tables() []verify.Table {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	if m.catalog == nil {
		return nil
	}
	return Compared(m.catalog, m.routes, false)
}

// Compared lists what a comparison of a database covers: its tables, and with routes, by oid, trees
// whose leaves are compared as one. Unlogged tables are in no stream, and covered if asked for.
func Compared(db *catalog.Database, routes map[uint32]pg.Name, unlogged bool) []verify.Table {
	var out []verify.Table
	var oids []uint32
	for _, r := range db.Relations {
		if r.Kind != catalog.KindTable || r.Persistence != catalog.Permanent && !unlogged {
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
	return together(out, oids, routes)
}

// Sizes are the sizes that the tables had when the catalog was read.
func (m *Schema) Sizes() map[pg.Name]int64 {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
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
	var there *catalog.Database
	err := m.task.onTarget(ctx, func(conn *pgx.Conn) (err error) {
		there, err = catalog.Read(ctx, conn)
		return err
	})
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
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	m.routes = routes
}

// together makes one table of the leaves that are written through one, since a row may
// lie in another of them on the other side.
func together(tables []verify.Table, oids []uint32, routes map[uint32]pg.Name) []verify.Table {
	var out []verify.Table
	at := map[pg.Name]int{}
	for i, t := range tables {
		via, ok := routes[oids[i]]
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
