package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// LoadRoutes reads, from the target, which relations were copied through a
// partitioned table, by the relation's oid on the source.
func LoadRoutes(ctx context.Context, conn *pgx.Conn) (map[uint32]pg.Name, error) {
	routes, err := pg.SelectMap(ctx, conn, func(relid *uint32, via *pg.Name) []any {
		return []any{relid, &via.Schema, &via.Name}
	}, `SELECT relid, via_nsp, via_rel FROM crossfade.relation WHERE via_rel <> ''`)
	return routes, pg.Wrap(err, "read routes of the copy")
}

// LoadRoutesHere is LoadRoutes by the numbers that the leaves have in this database, which the way
// back is read from: they have the same names on both sides.
func LoadRoutesHere(ctx context.Context, conn *pgx.Conn) (map[uint32]pg.Name, error) {
	routes, err := pg.SelectMap(ctx, conn, func(relid *uint32, via *pg.Name) []any {
		return []any{relid, &via.Schema, &via.Name}
	}, `SELECT c.oid, r.via_nsp, r.via_rel FROM crossfade.relation r
		JOIN pg_catalog.pg_namespace n ON n.nspname = r.nsp JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = r.rel
		WHERE r.via_rel <> ''`)
	return routes, pg.Wrap(err, "read routes of the copy")
}

// ScatteredError says that one leaf of a partitioned table was truncated whose rows
// lie among those of others on the target. Nothing of the transaction was applied.
type ScatteredError struct {
	Relation string // the leaf
	Through  string // the partitioned table
}

func (e *ScatteredError) Error() string {
	return fmt.Sprintf("partition %s was truncated by itself on the source; the target routes the rows below %s otherwise, so that it cannot be told there which of them were in it: "+
		"start over with crossfade clean, and until the cutover TRUNCATE the whole of %s, or DELETE from the partition", e.Relation, e.Through, e.Through)
}

// target is the table that takes a relation's changes, and how the relation's columns lie in it.
type target struct {
	*table
	places []int // of the table's columns in the relation's tuples; nil where they are alike
}

// target returns where changes of a relation go, looked up once for each description that the
// source sends. Leaves that are written through one partitioned table share the target, if their
// descriptions allow it: changes of one row are then recognised as such, whichever leaf they come
// from.
func (s *session) target(ctx context.Context, rel *stream.Relation) (target, error) {
	if t, ok := s.tables[rel]; ok {
		return t, nil
	}
	as, err := s.cfg.Copied[rel.ID].describe(rel)
	if err != nil {
		return target{}, err
	}
	via, routed := s.cfg.Routes[rel.ID]
	if !routed {
		via = as.Name
	}
	if last := s.roots[via]; routed && last != nil {
		if places, ok := last.takes(rel); ok {
			s.tables[rel] = target{last, places}
			return s.tables[rel], nil
		}
	}
	t, err := lookUp(ctx, s.x.conn, as, via)
	if err != nil {
		return target{}, err
	}
	if routed {
		s.roots[via] = t
	}
	s.tables[rel] = target{table: t}
	return s.tables[rel], nil
}

// takes reports whether changes of another leaf mean the same for the table, and
// where its columns are in their tuples.
func (t *table) takes(rel *stream.Relation) (places []int, ok bool) {
	if rel.Identity != t.rel.Identity || len(rel.Columns) != len(t.rel.Columns) {
		return nil, false
	}
	places = make([]int, len(t.rel.Columns))
	for i, c := range t.rel.Columns {
		if places[i] = slices.Index(rel.Columns, c); places[i] < 0 {
			return nil, false
		}
	}
	if slices.Equal(rel.Columns, t.rel.Columns) {
		return nil, true
	}
	return places, true
}

// change brings a change of the relation to the order of the table's columns.
func (t target) change(c *stream.Change) *stream.Change {
	if t.places == nil {
		return c
	}
	moved := *c
	moved.OldTuple, moved.NewTuple = t.tuple(c.OldTuple), t.tuple(c.NewTuple)
	return &moved
}

func (t target) tuple(from []stream.Value) []stream.Value {
	if from == nil {
		return nil
	}
	to := make([]stream.Value, len(t.places))
	for i, at := range t.places {
		to[i] = from[at]
	}
	return to
}

// truncated returns the tables that a TRUNCATE of relations empties, each once. Of
// those that are written through a partitioned table all must be among them.
func (s *session) truncated(ctx context.Context, rels []*stream.Relation) ([]*table, error) {
	var tables []*table
	done := map[pg.Name]bool{}
	for _, rel := range rels {
		via, routed := s.cfg.Routes[rel.ID]
		if routed && done[via] {
			continue
		}
		if routed {
			done[via] = true
			for id, other := range s.cfg.Routes {
				if other == via && !slices.ContainsFunc(rels, func(r *stream.Relation) bool { return r.ID == id }) {
					return nil, &ScatteredError{Relation: rel.Name.Display(), Through: via.Display()}
				}
			}
		}
		t, err := s.target(ctx, rel)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t.table)
	}
	return tables, nil
}

// Copied is a relation of the source as the copy found it. Changes identify tables and columns by
// the names that these had at that moment; only here can it be seen that one had the name of
// another, even if it was renamed back before anything checked.
type Copied struct {
	Name    pg.Name
	Columns []string // in the order of the table
}

// describe returns the relation under the name that the target's table has: a table is known by its
// oid, whatever it was called when it was changed. Columns have no number in the stream: if those
// that are known from the copy do not come in their order, they cannot be identified, and the error
// is a *RenamedError. A relation that was not copied is returned unchanged.
func (c Copied) describe(rel *stream.Relation) (*stream.Relation, error) {
	if c.Name.Name == "" {
		return rel, nil
	}
	// Columns may have come or gone on both sides.
	var was, is []string
	for _, name := range c.Columns {
		if slices.ContainsFunc(rel.Columns, func(col stream.Column) bool { return col.Name == name }) {
			was = append(was, name)
		}
	}
	for _, col := range rel.Columns {
		if slices.Contains(c.Columns, col.Name) {
			is = append(is, col.Name)
		}
	}
	if !slices.Equal(was, is) {
		return nil, &RenamedError{Relation: c.Name.Display(), Copied: was, Changed: is}
	}
	if rel.Name == c.Name {
		return rel, nil
	}
	under := *rel
	under.Name = c.Name
	return &under, nil
}

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
	return snapshots, pg.Wrap(err, "read snapshots of the copy")
}
