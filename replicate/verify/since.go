package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
)

const (
	// sinceRows is about how many rows of one side are compared at once: enough to need
	// few reads of the table, few enough for memory.
	sinceRows = 500_000
	// sinceReads bounds how often a table is read to compare rows one by one.
	sinceReads = 64
)

// unwritten is the condition of rows that were not written since, "true" for all; with
// later it is that of the others.
//
// Every row of the target was written by this run, or since: the numbers of the
// transactions are close together, and age() puts them in order. It gives the greatest
// number there is for what is frozen without a number of its own.
func (s *side) unwritten() string {
	if s.since == nil {
		return "true"
	}
	xid := func(x uint64) string { return fmt.Sprintf("pg_catalog.xid '%d'", uint32(x)) }
	cond := "pg_catalog.age(xmin) OPERATOR(pg_catalog.>) pg_catalog.age(" + xid(s.since.Xmax) + ")"
	if len(s.since.Xip) > 0 {
		open := lists.Map(s.since.Xip, xid)
		cond += " AND NOT xmin OPERATOR(pg_catalog.=) ANY (ARRAY[" + strings.Join(open, ", ") + "])"
	}
	if s.later {
		return "NOT (" + cond + ")"
	}
	return cond
}

// count is what became of the source's rows at a target that was written since.
type count struct {
	changed, gone int64 // since, or before: their old values cannot be read any more
	wrong         int64 // rows of the target that nobody wrote since and that the source does not have
	keys          []Difference
}

// judgeSince settles a table whose sums differ and whose target was written since both
// sides were equal. What was not written since must be in the source as it is.
func (w *worker) judgeSince(ctx context.Context, c *comparison) error {
	n, tables, err := w.bothBuckets(ctx, c)
	if err != nil {
		return err
	}
	rewritten := func() error {
		w.v.settle(c, NotProvable, "the table was truncated, rewritten or dropped while it was compared")
		return nil
	}
	if tables[0] == nil || tables[1] == nil {
		return rewritten()
	}
	groups := groupBuckets(differingBuckets(tables[0], tables[1]), tables)
	if len(groups) > sinceReads {
		w.v.settle(c, NotProvable, "too many of its rows were written at the target before they were compared")
		return nil
	}
	var found count
	for _, group := range groups {
		ok, err := w.compareSince(ctx, c, n, group, &found)
		if err != nil {
			return err
		}
		if !ok {
			return rewritten()
		}
	}
	c.result.Keys = found.keys
	switch {
	case found.wrong > 0:
		w.v.settle(c, Different, fmt.Sprintf("%d rows of the target that nobody wrote since the switch are not those of the source", found.wrong))
	case found.changed+found.gone > 0:
		w.v.settle(c, NotProvable, fmt.Sprintf("applications wrote to the target before the table was compared: of %d rows at the source %d were changed at the target since the switch, and %d are not there any more; all others are equal",
			c.sides[0].rows, found.changed, found.gone))
	default:
		w.v.settle(c, Equal, "")
	}
	return nil
}

// groupBuckets puts buckets together that are fetched at once.
func groupBuckets(differing []int64, tables [2]map[int64]bucket) (groups [][]int64) {
	var size int64
	for _, at := range differing {
		rows := max(tables[0][at].rows, tables[1][at].rows)
		if len(groups) == 0 || size+rows > sinceRows {
			groups, size = append(groups, nil), 0
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], at)
		size += rows
	}
	return groups
}

// compareSince compares the rows of some buckets. ok is false where a side was rewritten meanwhile.
func (w *worker) compareSince(ctx context.Context, c *comparison, n int64, which []int64, found *count) (ok bool, err error) {
	var rows [2]map[string][]string
	for at := range rows {
		err := w.on(ctx, at, func(s *side, conn *pgx.Conn) (err error) {
			rows[at], err = s.fetchAll(ctx, conn, c.table, w.v.parts(s, c, c.seen[at]), c.seen[at], fetching{n: n, which: which})
			return err
		})
		if err != nil || rows[at] == nil {
			return false, err
		}
	}
	left := found.take(rows[0], rows[1], w.v.cfg.Sample)
	if len(left) == 0 {
		return true, nil
	}
	var there map[string][]string // that were written since
	err = w.on(ctx, 1, func(s *side, conn *pgx.Conn) (err error) {
		later := *s
		later.later = true
		there, err = later.fetchAll(ctx, conn, c.table, w.v.parts(s, c, c.seen[1]), c.seen[1], fetching{n: n, which: which, keep: left})
		return err
	})
	if err != nil || there == nil {
		return false, err
	}
	for key, lost := range left {
		changed := min(int64(len(lost)), int64(len(there[key])))
		found.changed += changed
		if gone := int64(len(lost)) - changed; gone > 0 {
			found.gone += gone
			found.note(Difference{name(key, lost[0]), "gone"}, w.v.cfg.Sample)
		}
	}
	return true, nil
}

// take compares the source's rows with those of the target that were not written since,
// and returns the source's rows that are not among these, by their keys.
func (f *count) take(from, unwritten map[string][]string, limit int) map[string][]string {
	left := map[string][]string{}
	for key, rows := range from {
		there := map[string]int{}
		for _, sum := range sums(unwritten[key]) {
			there[sum]++
		}
		for i, sum := range sums(rows) {
			if there[sum] > 0 {
				there[sum]--
				continue
			}
			left[key] = append(left[key], rows[i])
		}
		for i, sum := range sums(unwritten[key]) {
			if there[sum] > 0 {
				there[sum]--
				f.wrong++
				f.note(Difference{name(key, unwritten[key][i]), "changed"}, limit)
				if len(left[key]) > 0 { // it is this row that is not as it was
					left[key] = left[key][1:]
				}
			}
		}
		if len(left[key]) == 0 {
			delete(left, key)
		}
	}
	for key, rows := range unwritten {
		if len(from[key]) == 0 {
			f.wrong += int64(len(rows))
			f.note(Difference{name(key, rows[0]), "extra"}, limit)
		}
	}
	return left
}

func (f *count) note(d Difference, limit int) {
	if len(f.keys) < limit {
		f.keys = append(f.keys, d)
	}
}
