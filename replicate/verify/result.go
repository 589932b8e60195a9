package verify

import (
	"fmt"
	"slices"

	"crossfade/internal/base/pg"
)

// Verdict says how the two sides of a table compare.
type Verdict string

// The verdicts.
const (
	Equal       Verdict = "equal"
	Different   Verdict = "different"
	NotProvable Verdict = "not provable"
)

// Result is what the comparison of one table found.
type Result struct {
	Name             pg.Name
	Verdict          Verdict
	FromRows, ToRows int64
	Reason           string // why it is different or not provable
	Keys             []Difference
}

// Difference is one key whose rows differ.
type Difference struct {
	Key  string // the key's columns as a row value, such as (1,eu); for a table without key its place, such as ctid (0,5)
	Kind string // "missing", "extra", "changed" or "repeated", seen from the side that should be equal; "gone" where it may have been deleted since
}

// String describes the difference.
func (d Difference) String() string { return fmt.Sprintf("%s %s", d.Kind, d.Key) }

// Report is the result of a comparison that came to its end.
type Report struct {
	Tables []Result // in the order of Config.Tables
}

// OK reports whether every table is equal. A table that is not provable is not
// equal, and not different either.
func (r Report) OK() bool {
	return !slices.ContainsFunc(r.Tables, func(t Result) bool { return t.Verdict != Equal })
}
