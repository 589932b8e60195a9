package fingerprint

import (
	"fmt"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
)

// Difference is one object that two schemas do not have in common.
type Difference struct {
	Kind, Name string
	A, B       string // what either side has; "" for a side that lacks the object
}

// String says what differs, for a person.
func (d Difference) String() string {
	switch {
	case d.B == "":
		return fmt.Sprintf("%s %s is missing", d.Kind, d.Name)
	case d.A == "":
		return fmt.Sprintf("%s %s is there in addition", d.Kind, d.Name)
	}
	return fmt.Sprintf("%s %s differs: %s, not %s", d.Kind, d.Name, d.B, d.A)
}

// Undo is the statement that takes from b what it has in addition, "" for another difference, or
// where none is known. Names of differences are as PostgreSQL quotes them.
func (d Difference) Undo() string {
	if d.A != "" {
		return ""
	}
	relation, part, _ := strings.Cut(d.Name, partSeparator)
	switch d.Kind {
	case "schema", kindTable, "index", "sequence", "type", "domain", "statistics":
		return "DROP " + strings.ToUpper(d.Kind) + " " + d.Name
	case kindView:
		if strings.HasPrefix(d.B, "m") {
			return "DROP MATERIALIZED VIEW " + d.Name
		}
		return "DROP VIEW " + d.Name
	case "function":
		return "DROP ROUTINE " + d.Name
	case "policy":
		return "DROP POLICY " + part + " ON " + relation
	case "column", kindConstraint:
		return "ALTER TABLE " + relation + " DROP " + strings.ToUpper(d.Kind) + " " + part
	}
	return ""
}

// Redo is the statement of a's archive that makes what b lacks, "" for another difference, or where
// none is known that stands on a line.
func (d Difference) Redo(of *archive.Archive) string {
	kind := map[string]string{"index": "INDEX", kindView: "VIEW", "sequence": "SEQUENCE", "statistics": "STATISTICS", kindConstraint: "CONSTRAINT"}[d.Kind]
	if d.B != "" || kind == "" {
		return ""
	}
	quoted, part, _ := strings.Cut(d.Name, partSeparator)
	name, ok := unquoted(quoted)
	if !ok {
		return ""
	}
	tag := name.Name
	if part != "" {
		constraint, ok := unquoted("x." + part)
		if !ok {
			return ""
		}
		tag += " " + constraint.Name
	}
	for i := range of.Entries {
		e := &of.Entries[i]
		if e.Kind != kind || e.Schema != name.Schema || e.Tag != tag {
			continue
		}
		if strings.ContainsAny(e.Definition, "'$") || strings.Contains(e.Definition, "--") || strings.Contains(e.Definition, "/*") {
			return ""
		}
		return strings.TrimSuffix(strings.Join(strings.Fields(e.Definition), " "), ";")
	}
	return ""
}

// unquoted reads a qualified name that PostgreSQL has quoted.
func unquoted(s string) (n pg.Name, ok bool) {
	q := sqltext.Whole(s)
	schema, first := q.Identifier(0)
	name, second := q.Identifier(2)
	return pg.Name{Schema: schema, Name: name}, first && second && q.Punct(1, '.') && len(q.Tokens) == 3
}

// Drift lists what b lacks of a, has in addition, or has otherwise, by kind and name. Expressions
// as the server prints them are compared only between servers of the same major version. Extensions
// that only b has are no difference: a platform brings its own. What is reported with another
// object is not listed: the parts of a table that exists on one side only, and the index of such a
// constraint.
func Drift(a, b Fingerprint) []Difference {
	printed := a.Major == b.Major
	key := func(o Object) [2]string { return [2]string{o.Kind, o.Name} }
	other, matched := lists.By(b.Objects, key), lists.SetOf(a.Objects, key)
	var out []Difference
	for _, x := range a.Objects {
		y, ok := other[key(x)]
		switch {
		case !ok:
			out = append(out, Difference{Kind: x.Kind, Name: x.Name, A: describe(x, true)})
		case x.Definition != y.Definition || printed && x.Printed != y.Printed:
			out = append(out, Difference{Kind: x.Kind, Name: x.Name, A: describe(x, printed), B: describe(y, printed)})
		}
	}
	for _, y := range b.Objects {
		if !matched[key(y)] && y.Kind != kindExtension {
			out = append(out, Difference{Kind: y.Kind, Name: y.Name, B: describe(y, true)})
		}
	}
	return withoutParts(out)
}

func describe(o Object, printed bool) string {
	text := o.Definition
	if printed && o.Printed != "" {
		text += " " + o.Printed
	}
	if text = strings.TrimSpace(text); text == "" {
		return "present"
	}
	return text
}

// withoutParts leaves out what is told with another object: columns, constraints, policies, indexes
// and sequences of a relation that is missing or added itself, and the index of a constraint that
// is.
func withoutParts(all []Difference) []Difference {
	type side struct {
		name  string
		added bool
	}
	one := func(d Difference) bool { return d.A == "" || d.B == "" }
	whole, constraints := map[string]bool{}, map[side]bool{}
	for _, d := range all {
		relation, part, _ := strings.Cut(d.Name, partSeparator)
		switch {
		case !one(d):
		case d.Kind == kindTable || d.Kind == kindView:
			whole[d.Name] = true
		case d.Kind == kindConstraint:
			if in, ok := schemaOf(relation); ok {
				constraints[side{in + "." + part, d.A == ""}] = true
			}
		}
	}
	ofWhole := func(d Difference) bool {
		text := d.A + d.B
		for name := range whole {
			n, ok := unquoted(name)
			in, _ := schemaOf(d.Name)
			of, _ := schemaOf(name)
			if d.Kind == "index" && ok && in == of && strings.HasPrefix(text, n.Name+" ") || d.Kind == "sequence" && strings.Contains(text, " "+name+".") {
				return true
			}
		}
		return false
	}
	out := all[:0]
	for _, d := range all {
		relation, _, ok := strings.Cut(d.Name, partSeparator)
		if ok && whole[relation] || one(d) && (d.Kind == "index" || d.Kind == "sequence") && (constraints[side{d.Name, d.A == ""}] || ofWhole(d)) {
			continue
		}
		out = append(out, d)
	}
	return out
}

// schemaOf is the schema of a qualified name, as PostgreSQL quotes it.
func schemaOf(name string) (string, bool) {
	if _, ok := unquoted(name); !ok {
		return "", false
	}
	return sqltext.Whole(name).Between(0, 1), true
}
