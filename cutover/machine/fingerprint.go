package machine

import (
	"fmt"
	"strings"
)

// Fingerprint is a catalog in short. Two catalogs are the same for a cutover if their sums are.
type Fingerprint struct {
	Sum     string
	Objects []Object // sorted by Name, for the text that describes a difference
}

// Object is one object of a catalog.
type Object struct {
	Name string // "table public.rental"
	Sum  string
}

// namedDifferences is how many objects the reason of an abort names: more than an operator reads in
// one line are counted.
const namedDifferences = 5

// Differences says where two catalogs differ; empty when they do not.
func Differences(d Direction, closing, opening Fingerprint) string {
	if closing.Sum == opening.Sum {
		return ""
	}
	var found []string
	a, b := closing.Objects, opening.Objects
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			found = append(found, a[0].Name+" is only on the "+string(d.Closing()))
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			found = append(found, b[0].Name+" is only on the "+string(d.Opening()))
			b = b[1:]
		default:
			if a[0].Sum != b[0].Sum {
				found = append(found, a[0].Name+" differs")
			}
			a, b = a[1:], b[1:]
		}
	}
	switch {
	case len(found) == 0:
		return "the sums differ"
	case len(found) > namedDifferences:
		return fmt.Sprintf("%s and %d more", strings.Join(found[:namedDifferences], "; "), len(found)-namedDifferences)
	}
	return strings.Join(found, "; ")
}
