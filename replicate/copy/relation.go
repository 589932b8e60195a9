package copy

import (
	"fmt"
	"slices"
	"strings"

	"crossfade/internal/pg"
	"crossfade/replicate/snapshot"
)

// relation is the state of one table within a Run.
type relation struct {
	table Table
	// Only the task that begins the relation looks here.
	pass *pass // the current one
	anew int   // how often it was begun with nothing kept

	// guarded by the queue's lock
	gen     int  // counts the passes
	left    int  // chunks of this pass that have not landed, and what else it waits for
	resumed bool // an earlier Run began it, and this one has not yet

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

// cut divides what is left of a relation into spans of about chunkBytes each.
// done are the spans that have landed already. Without ranges there is one span.
func cut(f facts, chunkBytes int64, ranges bool, done []span) []span {
	step := int64(1 << 62)
	if ranges && f.heap && f.blocks > 0 {
		pieces := min(max((f.bytes+chunkBytes-1)/chunkBytes, 1), f.blocks)
		step = (f.blocks + pieces - 1) / pieces
	}
	var spans []span
	for _, gap := range gaps(done) {
		lo := gap.lo
		for gap.hi < 0 && lo+step < f.blocks || gap.hi >= 0 && lo+step < gap.hi {
			spans = append(spans, span{lo, lo + step})
			lo += step
		}
		spans = append(spans, span{lo, gap.hi})
	}
	return spans
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

// share returns how many of the relation's bytes the span stands for.
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

// copyOut returns the source's COPY statement for a span.
func (t Table) copyOut(s span) string {
	where := ""
	switch {
	case s.lo == 0 && s.hi < 0:
	case s.hi < 0:
		where = fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid", s.lo)
	default:
		where = fmt.Sprintf(" WHERE ctid >= '(%d,0)'::pg_catalog.tid AND ctid < '(%d,0)'::pg_catalog.tid", s.lo, s.hi)
	}
	return "COPY (SELECT " + t.columnList() + " FROM ONLY " + t.Name.String() + where + ") TO STDOUT" + t.format()
}

// copyIn returns the target's COPY statement. A table without a column to copy
// gets no list, which means all that are not generated.
func (t Table) copyIn() string {
	list := ""
	if len(t.Columns) > 0 {
		list = " (" + t.columnList() + ")"
	}
	return "COPY " + t.Name.String() + list + " FROM STDIN" + t.format()
}

func (t Table) columnList() string {
	quoted := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		quoted[i] = pg.QuoteIdent(c)
	}
	return strings.Join(quoted, ", ")
}

func (t Table) format() string {
	if t.Binary {
		return " WITH (FORMAT binary)"
	}
	return ""
}
