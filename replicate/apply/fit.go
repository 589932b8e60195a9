package apply

import (
	"fmt"
	"slices"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// fit brings a relation and the target's table together by column names, or
// says in a DriftError why that cannot be.
func fit(rel *stream.Relation, into pg.Name, partitioned bool, columns []targetColumn, indexes []uniqueIndex) (*table, error) {
	t := &table{rel: rel, into: into, only: "ONLY ", root: partitioned}
	if partitioned {
		t.only = ""
	}
	byName := map[string]targetColumn{}
	for _, c := range columns {
		byName[c.name] = c
	}
	var problems []string
	byNum := map[int16]int{}
	for i, rc := range rel.Columns {
		tc, ok := byName[rc.Name]
		if !ok {
			problems = append(problems, fmt.Sprintf("column %s does not exist on the target", rc.Name))
			continue
		}
		delete(byName, rc.Name)
		if p := typeProblem(rc, tc); p != "" {
			problems = append(problems, p)
			continue
		}
		byNum[tc.num] = i
		c := column{
			name: pg.QuoteIdent(rc.Name), raw: rc.Name, typ: tc.base.String(), domain: tc.domain, oid: tc.baseOID,
			canon: canonOf(tc), skip: tc.generated, always: tc.identity == "a",
		}
		c.route(tc)
		if c.canon != canonNone {
			c.eq = "OPERATOR(pg_catalog.=)"
		}
		t.cols = append(t.cols, c)
		if !tc.generated {
			t.stored = append(t.stored, i)
		}
	}
	for _, c := range columns {
		if left, ok := byName[c.name]; ok && !left.generated {
			problems = append(problems, fmt.Sprintf("column %s exists on the target only", c.name))
		}
	}
	if len(problems) > 0 {
		return nil, &DriftError{Relation: rel.Name.Display(), Problems: problems}
	}
	t.chooseKey(columns, indexes, byNum)
	return t, nil
}

func typeProblem(rc stream.Column, tc targetColumn) string {
	fits := tc.baseOID == rc.TypeOID
	if rc.TypeOID >= firstUnpinnedOID {
		fits = tc.base == rc.Type
	}
	if !fits {
		source := rc.Type.Display()
		if rc.TypeOID < firstUnpinnedOID {
			source = fmt.Sprintf("another one (oid %d)", rc.TypeOID)
		}
		return fmt.Sprintf("the type of column %s is %s on the target and %s on the source", rc.Name, tc.base.Display(), source)
	}
	if tc.typmod != rc.TypeMod {
		return fmt.Sprintf("the length or precision of column %s differs", rc.Name)
	}
	return ""
}

// chooseKey decides which columns name a row, and by which operators.
func (t *table) chooseKey(columns []targetColumn, indexes []uniqueIndex, byNum map[int16]int) {
	if t.rel.HasKey() {
		for i, c := range t.rel.Columns {
			if c.Key {
				t.key = append(t.key, i)
			}
		}
	}
	for _, x := range indexes {
		cols, ok := t.indexColumns(x, columns, byNum)
		if !ok {
			continue
		}
		sorted := slices.Sorted(slices.Values(cols))
		switch {
		case t.key == nil && t.rel.Identity == stream.IdentityFull:
			t.key = sorted
		case !slices.Equal(t.key, sorted):
			continue
		}
		for n, i := range cols {
			c := &t.cols[i]
			c.eq = x.operators[n]
			if (x.types[n] != pg.Name{}) && x.types[n].String() != c.typ {
				c.eqType = x.types[n].String()
			}
		}
		break
	}
	t.coalesce = t.key != nil
	for _, i := range t.key {
		if t.cols[i].canon == canonNone {
			t.coalesce = false
		}
	}
}

// indexColumns returns the relation's columns of an index, and whether each is sent and never null.
func (t *table) indexColumns(x uniqueIndex, columns []targetColumn, byNum map[int16]int) ([]int, bool) {
	var cols []int
	for _, num := range x.columns {
		i, sent := byNum[num]
		notNull := slices.ContainsFunc(columns, func(c targetColumn) bool { return c.num == num && c.notNull })
		if !sent || !notNull || t.cols[i].skip {
			return nil, false
		}
		cols = append(cols, i)
	}
	return cols, true
}
