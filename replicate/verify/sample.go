package verify

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
)

const (
	// bucketRows is about how many rows one bucket of keys has: enough that
	// their counts fit into memory for any table, few enough to be fetched.
	bucketRows = 2000
	maxBuckets = 1 << 16
	// fetchRows bounds the rows of a bucket that is fetched. Only keys that are equal are more.
	fetchRows = 500_000
	// fetchReads bounds how often a table is read for the keys that differ.
	fetchReads = 8
)

// bucket is a share of a table's keys, by their hash.
type bucket struct {
	rows int64
	sum  string
}

// sample names the keys that differ, up to the bound of the Config; more says that there are others,
// or may be. It groups both sides into buckets by the hash of the key, and fetches keys and row
// hashes of buckets that differ until it has enough. It returns none when the table was rewritten
// meanwhile.
func (w *worker) sample(ctx context.Context, c *comparison) (keys []Difference, more bool, err error) {
	n, tables, err := w.bothBuckets(ctx, c)
	if err != nil || tables[0] == nil || tables[1] == nil {
		return nil, true, err
	}
	differing := differingBuckets(tables[0], tables[1])
	fit := slices.DeleteFunc(slices.Clone(differing), func(at int64) bool { return max(tables[0][at].rows, tables[1][at].rows) > fetchRows })
	more = len(fit) < len(differing)
	groups := groupBuckets(fit, tables)
	for i, group := range groups {
		if len(keys) > w.v.cfg.Sample || i == fetchReads {
			more = true
			break
		}
		var rows [2]map[string][]string
		for at := range rows {
			err := w.on(ctx, at, func(s *side, conn *pgx.Conn) (err error) {
				rows[at], err = s.fetchAll(ctx, conn, c.table, w.v.parts(s, c, c.seen[at]), c.seen[at], fetching{n: n, which: group})
				return err
			})
			if err != nil || rows[at] == nil {
				return nil, true, err
			}
		}
		keys = append(keys, compareKeys(rows[0], rows[1])...)
	}
	if len(keys) > w.v.cfg.Sample {
		keys, more = keys[:w.v.cfg.Sample], true
	}
	slices.SortFunc(keys, byKey)
	return keys, more, nil
}

// bothBuckets cuts both sides into n buckets. A side that was rewritten meanwhile has none.
func (w *worker) bothBuckets(ctx context.Context, c *comparison) (n int64, tables [2]map[int64]bucket, err error) {
	n = min(max((c.sides[0].rows+c.sides[1].rows)/2/bucketRows, 1), maxBuckets)
	for at := range tables {
		err := w.on(ctx, at, func(s *side, conn *pgx.Conn) (err error) {
			tables[at], err = s.allBuckets(ctx, conn, c.table, w.v.parts(s, c, c.seen[at]), c.seen[at], n)
			return err
		})
		if err != nil || tables[at] == nil {
			return n, tables, err
		}
	}
	return n, tables, nil
}

// on calls f with a session at a side, until it works or can never work.
func (w *worker) on(ctx context.Context, at int, f func(*side, *pgx.Conn) error) error {
	return w.persist(ctx, func() (err error) {
		if at == w.at {
			return f(w.side, w.conn)
		}
		if w.otherConn == nil || w.otherConn.IsClosed() {
			if w.otherConn, err = w.other.open(ctx); err != nil {
				return err
			}
		}
		return f(w.other, w.otherConn)
	})
}

// key returns the SQL of what identifies a row: its key, or without one the hash
// of the whole row, which then is all that can be compared.
func (s *side) key(t Table, r relation) string {
	if len(t.Key) > 0 {
		return s.row(t.Key, r)
	}
	return written(hash(s.row(t.Columns, r)))
}

func (s *side) bucketOf(t Table, r relation, n int64) string {
	return fmt.Sprintf("(%s OPERATOR(pg_catalog.&) %d) OPERATOR(pg_catalog.%%) %d", hash(s.key(t, r)), int64(1)<<62-1, n)
}

// allBuckets adds up the buckets of the parts of the table's files: of the target's rows those that
// were not written since.
func (s *side) allBuckets(ctx context.Context, conn *pgx.Conn, t Table, parts []part, files []relation, n int64) (map[int64]bucket, error) {
	all := map[int64]bucket{}
	for _, p := range parts {
		found, err := s.buckets(ctx, conn, t, files[p.file], p, n)
		if err != nil || found == nil {
			return nil, err
		}
		for at, b := range found {
			if old, ok := all[at]; ok {
				var sum, more big.Int
				_, first := sum.SetString(old.sum, 10)
				_, second := more.SetString(b.sum, 10)
				if !first || !second {
					return nil, fmt.Errorf("sum of hashes %q or %q is no number", old.sum, b.sum)
				}
				b = bucket{rows: old.rows + b.rows, sum: sum.Add(&sum, &more).String()}
			}
			all[at] = b
		}
	}
	return all, nil
}

func (s *side) buckets(ctx context.Context, conn *pgx.Conn, t Table, r relation, p part, n int64) (map[int64]bucket, error) {
	found := map[int64]bucket{}
	sql := fmt.Sprintf("SELECT %s, pg_catalog.count(*), %s FROM ONLY %s WHERE %s AND %s GROUP BY 1",
		s.bucketOf(t, r, n), written("pg_catalog.sum("+hash(s.row(t.Columns, r))+")"), r.name, p.where(), s.unwritten())
	provable, err := s.read(ctx, conn, r, func(row pgx.Rows) error {
		var at int64
		var b bucket
		if err := row.Scan(&at, &b.rows, &b.sum); err != nil {
			return err
		}
		found[at] = b
		return nil
	}, sql)
	if !provable {
		found = nil
	}
	return found, err
}

func differingBuckets(from, to map[int64]bucket) []int64 {
	var differing []int64
	for at, b := range from {
		if to[at] != b {
			differing = append(differing, at)
		}
	}
	for at := range to {
		if _, ok := from[at]; !ok {
			differing = append(differing, at)
		}
	}
	slices.Sort(differing)
	return differing
}

// fetching says which rows are fetched.
type fetching struct {
	n     int64   // into how many buckets the table is cut
	which []int64 // buckets
	// keep has the keys whose rows are wanted, nil for all.
	keep map[string][]string
}

// fetchAll is fetch of all parts of the table's files.
func (s *side) fetchAll(ctx context.Context, conn *pgx.Conn, t Table, parts []part, files []relation, f fetching) (map[string][]string, error) {
	all := map[string][]string{}
	for _, p := range parts {
		found, err := s.fetch(ctx, conn, t, files[p.file], p, f)
		if err != nil || found == nil {
			return nil, err
		}
		for key, rows := range found {
			all[key] = append(all[key], rows...)
		}
	}
	for _, rows := range all {
		slices.Sort(rows)
	}
	return all, nil
}

// fetch returns, per key of the buckets, the hashes of its rows in a part, in no order. For a
// table without a key the place of the row is put after its hash.
func (s *side) fetch(ctx context.Context, conn *pgx.Conn, t Table, r relation, p part, f fetching) (map[string][]string, error) {
	found := map[string][]string{}
	place := "''"
	if len(t.Key) == 0 {
		place = "pg_catalog.format(' at the " + s.name + ": ctid %s', ctid)"
	}
	sql := fmt.Sprintf("SELECT %s, %s, %s FROM ONLY %s WHERE %s OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.int8[]) AND %s AND %s",
		s.key(t, r), written(hash(s.row(t.Columns, r))), place, r.name, s.bucketOf(t, r, f.n), p.where(), s.unwritten())
	provable, err := s.read(ctx, conn, r, func(row pgx.Rows) error {
		var key, sum, at string
		if err := row.Scan(&key, &sum, &at); err != nil {
			return err
		}
		if f.keep == nil || len(f.keep[key]) > 0 {
			found[key] = append(found[key], sum+at)
		}
		return nil
	}, sql, f.which)
	if !provable {
		found = nil
	}
	return found, err
}

// byKey orders what is told of keys.
func byKey(a, b Difference) int { return cmp.Compare(a.Key+a.Kind, b.Key+b.Kind) }

// compareKeys names the keys whose rows differ, in their order.
func compareKeys(from, to map[string][]string) []Difference {
	var found []Difference
	for key, rows := range from {
		other := to[key]
		switch {
		case len(other) == 0:
			found = append(found, Difference{name(key, rows[0]), "missing"})
		case len(other) > len(rows):
			found = append(found, Difference{name(key, other[len(other)-1]), "repeated"})
		case len(other) < len(rows):
			found = append(found, Difference{name(key, rows[len(rows)-1]), "missing"})
		case !slices.Equal(sums(rows), sums(other)):
			found = append(found, Difference{name(key, rows[0]), "changed"})
		}
	}
	for key, rows := range to {
		if len(from[key]) == 0 {
			found = append(found, Difference{name(key, rows[0]), "extra"})
		}
	}
	slices.SortFunc(found, byKey)
	return found
}

// name shows a key, or the place of a row without one.
func name(key, row string) string {
	if _, place, ok := cutPlace(row); ok {
		return "a row at the " + place
	}
	const longest = 200 // runes of a key that are shown
	if r := []rune(key); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return key
}

func sums(rows []string) []string {
	return lists.Map(rows, func(row string) string {
		sum, _, _ := cutPlace(row)
		return sum
	})
}

func cutPlace(row string) (sum, place string, ok bool) {
	return strings.Cut(row, " at the ")
}
