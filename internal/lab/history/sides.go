package history

import (
	"cmp"
	"slices"
	"time"
)

// change is a point at which the answers turned from one side to another.
type change struct{ before, after Operation }

// changes finds the longest chain of acknowledged operations in which each began
// after the one before it had ended, and came from another side. Its length less
// one is how often the side changed, at least, as the clients could tell: in a
// run with one switch an answer of the source that began after an answer of the
// target makes it two.
func changes(ops []Operation) []change {
	var known []Operation
	for _, o := range ops {
		if o.Outcome == OK && o.Side != "" {
			known = append(known, o)
		}
	}
	slices.SortFunc(known, func(a, b Operation) int { return a.Start.Compare(b.Start) })

	// first[k][side] is the operation that ends earliest among those of side
	// at the end of a chain with k changes.
	type link struct {
		op   Operation
		from *link
	}
	var first []map[string]*link
	for _, o := range known {
		level, from := 0, (*link)(nil)
		for k := len(first) - 1; k >= 0 && from == nil; k-- {
			for side, l := range first[k] {
				if side != o.Side && l.op.End.Before(o.Start) && (from == nil || l.op.End.Before(from.op.End)) {
					level, from = k+1, l
				}
			}
			if l := first[k][o.Side]; from == nil && l != nil && l.op.End.Before(o.Start) {
				level, from = k, l.from
				break
			}
		}
		for len(first) <= level {
			first = append(first, map[string]*link{})
		}
		if l := first[level][o.Side]; l == nil || o.End.Before(l.op.End) {
			first[level][o.Side] = &link{o, from}
		}
	}
	if len(first) == 0 {
		return nil
	}
	var end *link
	for _, l := range first[len(first)-1] {
		if end == nil || l.op.End.Before(end.op.End) {
			end = l
		}
	}
	var out []change
	for ; end.from != nil; end = end.from {
		out = append(out, change{before: end.from.op, after: end.op})
	}
	slices.Reverse(out)
	return out
}

// Turns returns the changes of side, as all of ops could tell them, that are more than the run
// made: answers of a side that was closed by then. The operations may be those of several
// workloads on one database; Check judges those of one.
func Turns(ops []Operation, allowed int) Finding {
	f, _ := turns(ops, allowed)
	return f
}

func turns(ops []Operation, allowed int) (f Finding, all int) {
	for i, ch := range changes(ops) {
		all++
		if i >= allowed {
			f.add("%s of side %s ended at %s, %s of side %s began at %s",
				ch.before.name(), ch.before.Side, ch.before.End.UTC().Format(timeFormat),
				ch.after.name(), ch.after.Side, ch.after.Start.UTC().Format(timeFormat))
		}
	}
	return f, all
}

// Side is one side and what it acknowledged.
type Side struct {
	Name         string // system identifier
	Acknowledged int
	First, Last  time.Time // ends of its first and its last acknowledged operation
}

func sides(ops []Operation) []Side {
	by := map[string]*Side{}
	for _, o := range ops {
		if o.Outcome != OK || o.Side == "" {
			continue
		}
		s := by[o.Side]
		if s == nil {
			s = &Side{Name: o.Side, First: o.End}
			by[o.Side] = s
		}
		s.Acknowledged++
		if o.End.Before(s.First) {
			s.First = o.End
		}
		if o.End.After(s.Last) {
			s.Last = o.End
		}
	}
	out := make([]Side, 0, len(by))
	for _, s := range by {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Side) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Name, b.Name))
	})
	return out
}
