package apply

import (
	"slices"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

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
