package schema

import (
	"fmt"
	"strings"
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

// Drift lists what b lacks of a, has in addition, or has otherwise, by kind and
// name. Expressions as the server prints them are compared only between servers
// of the same major version. Extensions that only b has are no difference: a
// platform brings its own. The parts of a table that is there on one side only
// are not listed.
func Drift(a, b Fingerprint) []Difference {
	printed := a.Major == b.Major
	other := make(map[[2]string]Object, len(b.Objects))
	for _, o := range b.Objects {
		other[[2]string{o.Kind, o.Name}] = o
	}
	var out []Difference
	matched := make(map[[2]string]bool, len(a.Objects))
	for _, x := range a.Objects {
		key := [2]string{x.Kind, x.Name}
		y, ok := other[key]
		matched[key] = true
		switch {
		case !ok:
			out = append(out, Difference{Kind: x.Kind, Name: x.Name, A: describe(x, true)})
		case x.Definition != y.Definition || printed && x.Printed != y.Printed:
			out = append(out, Difference{Kind: x.Kind, Name: x.Name, A: describe(x, printed), B: describe(y, printed)})
		}
	}
	for _, y := range b.Objects {
		if !matched[[2]string{y.Kind, y.Name}] && y.Kind != kindExtension {
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

// withoutParts leaves out the columns of a relation that is missing or added itself.
func withoutParts(all []Difference) []Difference {
	whole := map[string]bool{}
	for _, d := range all {
		if (d.Kind == kindTable || d.Kind == kindView) && (d.A == "" || d.B == "") {
			whole[d.Name] = true
		}
	}
	out := all[:0]
	for _, d := range all {
		if relation, _, ok := strings.Cut(d.Name, partSeparator); ok && whole[relation] {
			continue
		}
		out = append(out, d)
	}
	return out
}
