package apply

import (
	"fmt"
	"slices"
	"strings"

	"crossfade/internal/pg"
	"crossfade/replicate/stream"
)

// Copied is a relation of the source as the copy found it. Changes name tables and
// columns by the names that these had at that moment; only here can it be seen that
// one had the name of another, also when it was given back before anybody looked.
type Copied struct {
	Name    pg.Name
	Columns []string // in the order of the table
}

// problems says how a description of the relation contradicts what was copied: each
// a sentence without a stop, none for a relation that was not copied.
func (c Copied) problems(rel *stream.Relation) []string {
	if c.Name.Name == "" {
		return nil
	}
	var out []string
	if c.Name != rel.Name {
		out = append(out, fmt.Sprintf("table %s was called %s when it was changed", c.Name.Display(), rel.Name.Display()))
	}
	// Columns may have come or gone on both sides. Those that are known keep their order.
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
		out = append(out, fmt.Sprintf("its columns changed their names: they were %s when it was copied, and %s when it was changed",
			strings.Join(was, ", "), strings.Join(is, ", ")))
	}
	return out
}
