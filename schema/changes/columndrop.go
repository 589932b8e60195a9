package changes

import (
	"slices"
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
)

// along is what needs no statement of its own on the target, since it goes, or comes, with
// something else that has one: what is of a column that was dropped, indexes of partitions, columns
// of partitions. What is taken for such by mistake is told once the other statement has been
// executed.
type along struct {
	gone  map[int]bool     // entries that the source no longer has, by number
	goes  map[int]bool     // of those, the ones that something else takes with it
	drops map[int][]string // columns that the target still has and the source no longer has, by the table's number
	with  map[int][]string // facts of a partition that its root has as well, by the partition's number
}

// takenAlong are kinds that a column takes with it, without CASCADE.
var takenAlong = []string{"INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "STATISTICS", "COMMENT", "ACL", "SECURITY LABEL", "DEFAULT", "SEQUENCE", "SEQUENCE OWNED BY"}

func (c *Comparison) along(there map[entryKey][]*archive.Entry, cfg Config) along {
	a := along{map[int]bool{}, map[int]bool{}, map[int][]string{}, map[int][]string{}}
	moved := map[int]entryPair{} // tables
	for _, p := range c.pairs {
		switch {
		case p.now == nil:
			a.gone[p.kept.ID] = true
		case p.kept != nil && (p.now.Kind == "TABLE" || p.now.Kind == "FOREIGN TABLE"):
			moved[p.kept.ID] = p
			want := facts(p.now, cfg.Rewrite)
			for _, t := range there[keyOf(p.now)] {
				for _, f := range facts(t, plan.Rewrite{}) {
					if column, ok := strings.CutPrefix(f.name, prefixColumn); ok {
						if _, wanted := valueOf(want, f.name); !wanted {
							a.drops[p.kept.ID] = append(a.drops[p.kept.ID], column)
						}
					}
				}
			}
		}
	}
	for i := range c.kept.Archive.Entries {
		e := &c.kept.Archive.Entries[i]
		switch {
		case e.Kind == "TABLE ATTACH":
			a.partition(e, moved, there, cfg)
		case !a.gone[e.ID]:
		case e.Kind == "INDEX ATTACH":
			c.attached(e, a)
		case slices.Contains(takenAlong, e.Kind) && slices.ContainsFunc(e.Dependencies, func(id int) bool {
			return slices.ContainsFunc(a.drops[id], func(column string) bool { return hasName(e.Definition, column) })
		}):
			a.goes[e.ID] = true
			for _, id := range e.Dependencies {
				if a.gone[id] { // the sequence of a serial column
					a.goes[id] = true
				}
			}
		}
	}
	return a
}

// partition finds what a partition has got, or lost, with its root.
func (a along) partition(e *archive.Entry, moved map[int]entryPair, there map[entryKey][]*archive.Entry, cfg Config) {
	for _, leaf := range e.Dependencies {
		p, ok := moved[leaf]
		if !ok || p.kept.Schema != e.Schema || p.kept.Tag != e.Tag {
			continue
		}
		for _, root := range e.Dependencies {
			r, ok := moved[root]
			if !ok || root == leaf {
				continue
			}
			kept, now := facts(r.kept, cfg.Rewrite), facts(r.now, cfg.Rewrite)
			for _, f := range slices.Concat(kept, now) {
				if !strings.HasPrefix(f.name, prefixColumn) && !strings.HasPrefix(f.name, prefixConstr) && f.name != factOrder {
					continue
				}
				was, _ := valueOf(kept, f.name)
				is, _ := valueOf(now, f.name)
				pending := slices.ContainsFunc(there[keyOf(r.now)], func(t *archive.Entry) bool {
					has, _ := valueOf(facts(t, plan.Rewrite{}), f.name)
					return has.value != is.value
				})
				if was.value != is.value && pending {
					a.with[leaf] = append(a.with[leaf], f.name)
				}
			}
		}
	}
}

// attached finds the index, or the key, of a partition that goes with that of its root.
func (c *Comparison) attached(attach *archive.Entry, a along) {
	for i := range c.kept.Archive.Entries {
		e := &c.kept.Archive.Entries[i]
		of := e.Kind == "INDEX" && e.Tag == attach.Tag || e.Kind == "CONSTRAINT" && strings.HasSuffix(e.Tag, " "+attach.Tag)
		if of && a.gone[e.ID] && e.Schema == attach.Schema {
			a.goes[e.ID], a.goes[attach.ID] = true, true
		}
	}
}

// entry reports whether something else takes an entry of the kept archive with it.
func (a along) entry(e *archive.Entry) bool { return a.goes[e.ID] || goesAlong(e, a.gone) }

// fact reports whether a property of a table goes or comes with something else.
func (a along) fact(p entryPair, f fact) bool {
	if p.kept == nil {
		return false
	}
	switch {
	case slices.Contains(a.with[p.kept.ID], f.name):
		return true
	case strings.HasPrefix(f.name, prefixColumn), f.name == factDefinition, f.name == factOptions, f.name == factOrder, f.name == factOwner, f.name == factMethod:
		return false
	}
	return slices.ContainsFunc(a.drops[p.kept.ID], func(column string) bool { return hasName(f.text, column) })
}

// hasName reports whether a name stands in a statement.
func hasName(sql, name string) bool {
	s := sqltext.Whole(sql)
	for i := range s.Tokens {
		if n, ok := s.Identifier(i); ok && n == name {
			return true
		}
	}
	return false
}
