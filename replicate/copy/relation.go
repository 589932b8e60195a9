package copy

import (
	"fmt"
	"slices"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/replicate/snapshot"
)

// relation is the state of one table within a Run.
type relation struct {
	table   Table
	pending bool // nothing was begun of it when the Run began
	// Only the task that begins the relation reads these.
	pass     *pass // the current one
	restarts int   // how often it was begun with nothing kept

	// guarded by the queue's lock
	gen     int    // counts the passes
	left    int    // chunks of this pass that are under way, and what else it waits for
	uncut   []span // of this pass: what no chunk was made of yet
	cut     *pass  // the pass that uncut is of
	resumed bool   // an earlier Run began it, and this one has not yet

	// guarded by the counters' lock: what the progress counts for it
	size, bytes, rows int64
}

// pass is one attempt at a relation, under one snapshot. It never changes.
type pass struct {
	gen     int
	holder  *snapshot.Holder
	facts   facts
	attempt int32 // in the record
	repair  bool  // kept chunks are of other snapshots: what changed since is fetched again
	key     key   // by which it can be; nil if it cannot
	ranges  bool  // the table can be read by ranges of blocks
}

// span is a range of blocks, hi exclusive; hi -1 means to the end.
type span struct{ lo, hi int64 }

func (s span) String() string {
	if s.hi < 0 {
		return fmt.Sprintf("blocks %d to the end", s.lo)
	}
	return fmt.Sprintf("blocks %d to %d", s.lo, s.hi-1)
}

const toEnd = -1

// cutOff takes a span of at most step blocks off what is not cut yet. A rest of
// less than half a step goes with it.
func cutOff(uncut []span, step, blocks int64) (s span, rest []span) {
	gap := uncut[0]
	end := gap.hi
	if end < 0 {
		end = blocks
	}
	step = max(step, 1)
	if end-gap.lo < step+max(step/2, 1) {
		return gap, uncut[1:]
	}
	uncut[0].lo = gap.lo + step
	return span{gap.lo, gap.lo + step}, uncut
}

// gaps returns what the given disjoint spans leave open of 0 to the end.
func gaps(done []span) []span {
	sorted := slices.SortedFunc(slices.Values(done), func(a, b span) int { return int(min(max(a.lo-b.lo, -1), 1)) })
	var open []span
	at := int64(0)
	for _, s := range sorted {
		if s.lo > at {
			open = append(open, span{at, s.lo})
		}
		if s.hi < 0 {
			return open
		}
		at = max(at, s.hi)
	}
	return append(open, span{at, toEnd})
}

// share returns how many of the relation's bytes are in the span.
func (f facts) share(s span) int64 {
	hi := s.hi
	if hi < 0 || hi > f.blocks {
		hi = f.blocks
	}
	if f.blocks <= 0 || s.lo == 0 && hi == f.blocks {
		return f.bytes
	}
	if s.lo >= hi {
		return 0
	}
	return int64(float64(f.bytes) * float64(hi-s.lo) / float64(f.blocks))
}

// whole reports whether the span is all of a table.
func (s span) whole() bool { return s.lo == 0 && s.hi == toEnd }

// CopyOut returns the source's COPY statement for a span. That of a whole table names the table,
// which spares the executor; it takes no row of a table that inherits from it.
func (t Table) copyOut(s span) string {
	if s.whole() {
		return "COPY " + t.target(t.Name) + " TO STDOUT" + t.format(false)
	}
	where := fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid", s.lo)
	if s.hi >= 0 {
		where += fmt.Sprintf(" AND ctid < '(%d,0)'::pg_catalog.tid", s.hi)
	}
	return "COPY (SELECT " + t.columnList() + " FROM ONLY " + t.Name.String() + where + ") TO STDOUT" + t.format(false)
}

// CopyIn returns the target's COPY statement. With freeze the rows are written as rows that
// everybody sees, which the server allows only where the table was emptied in the same transaction.
func (t Table) copyIn(freeze bool) string {
	return "COPY " + t.target(t.lands()) + " FROM STDIN" + t.format(freeze)
}

// lands is the table of the target that takes the rows.
func (t Table) lands() pg.Name {
	if t.Through.Name != "" {
		return t.Through
	}
	return t.Name
}

// target is the table, or the one above it, with its columns. A table without a column
// to copy gets no list, which means all that are not generated.
func (t Table) target(name pg.Name) string {
	if len(t.Columns) == 0 {
		return name.String()
	}
	return name.String() + " (" + t.columnList() + ")"
}

func (t Table) columnList() string {
	quoted := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		quoted[i] = pg.QuoteIdent(c)
	}
	return strings.Join(quoted, ", ")
}

func (t Table) format(freeze bool) string {
	switch {
	case t.Binary && freeze:
		return " WITH (FORMAT binary, FREEZE)"
	case t.Binary:
		return " WITH (FORMAT binary)"
	case freeze:
		return " WITH (FREEZE)"
	}
	return ""
}
