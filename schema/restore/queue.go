package restore

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

const (
	// smallTable is the size on disk up to which a table's entries share a
	// transaction with those of others: building them takes less than the round
	// trip and the commit of a transaction of their own.
	smallTable = 2 << 20
	// batchAnalyze is how many small tables share an ANALYZE.
	batchAnalyze = 32
)

// step is what one session does at a time.
type step struct {
	entries []*archive.Entry // several: in one transaction
	analyze []pg.Name

	parted  parted // of the one entry, if it is done in two steps
	index   bool   // the first of these, or a whole index: other builds of its table may run next to it
	setting string // before the statement
	memory  int64  // granted to the build
	tables  map[int]bool
	oids    []uint32 // of the tables that are analysed
}

// queue holds the entries that have not been begun, those of large tables
// first, and the tables that are to be analysed. It is used by one goroutine.
type queue struct {
	r       *restorer
	memory  *budget
	waiting []*archive.Entry
	analyze []*catalog.Relation
	part    map[int]bool         // dump ids of this part
	shared  map[int]int          // dump id of a table → builds that run on it next to one another
	alone   map[int]bool         // dump id of a table → a step has it for itself
	locks   map[int]map[int]bool // dump id of an entry → dump ids of its tables
	left    map[uint32]int       // oid of a table → its entries that are not done
	gated   map[uint32]bool      // oid of a table → it is not copied yet
	cache   map[int]parted       // what partIndex says of an entry; index is "" where it says no
	running int
	all     bool // every table is copied
}

func newQueue(r *restorer) *queue {
	q := &queue{r: r, waiting: r.pending(), part: map[int]bool{}, shared: map[int]int{}, alone: map[int]bool{},
		locks: map[int]map[int]bool{}, left: map[uint32]int{}, gated: map[uint32]bool{}, cache: map[int]parted{}}
	for _, e := range r.plan.Entries(r.part) {
		q.part[e.ID] = true
		q.locks[e.ID] = q.tables(e)
	}
	slices.SortStableFunc(q.waiting, func(a, b *archive.Entry) int {
		x, y := r.plan.Table(a), r.plan.Table(b)
		return cmp.Or(cmp.Compare(q.size(y), q.size(x)), cmp.Compare(x, y))
	})
	for _, e := range q.waiting {
		q.left[r.plan.Table(e)]++
	}
	for _, t := range r.cfg.Analyze {
		// ANALYZE of a partitioned table does its partitions as well.
		if !t.Partition {
			q.analyze = append(q.analyze, t)
		}
	}
	if r.cfg.Copied != nil && r.cfg.Source != nil {
		for _, t := range r.cfg.Source.Relations {
			q.gated[t.OID] = true
		}
	}
	slices.SortStableFunc(q.analyze, func(a, b *catalog.Relation) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return q
}

func (q *queue) allCopied() {
	q.gated = map[uint32]bool{}
	q.all = true
}

// relation is the table that an entry belongs to, nil if it is not known.
func (q *queue) relation(oid uint32) *catalog.Relation {
	if q.r.cfg.Source == nil || oid == 0 {
		return nil
	}
	return q.r.cfg.Source.Relation(oid)
}

func (q *queue) size(oid uint32) int64 {
	if t := q.relation(oid); t != nil {
		return t.Bytes
	}
	return 0
}

func (q *queue) small(e *archive.Entry) bool {
	t := q.relation(q.r.plan.Table(e))
	return t != nil && t.Bytes <= smallTable
}

// tables lists the dump ids of the tables that an entry locks.
func (q *queue) tables(e *archive.Entry) map[int]bool {
	out := map[int]bool{}
	for _, id := range e.Dependencies {
		d := q.r.plan.ByID[id]
		switch {
		case d == nil:
		case d.Kind == "TABLE" || d.Kind == "MATERIALIZED VIEW":
			out[id] = true
		default:
			for table := range q.locks[id] {
				out[table] = true
			}
		}
	}
	return out
}

// take hands out the first step that may run now, nil if there is none. sessions
// is how many are idle.
func (q *queue) take(sessions int) *step {
	q.leaveOut()
	for i, e := range q.waiting {
		p, index := q.parts(e)
		small := q.small(e)
		if !q.ready(e, index && !small, nil) {
			continue
		}
		if small {
			return q.batch(sessions)
		}
		s := &step{entries: []*archive.Entry{e}, parted: p, index: index, tables: q.locks[e.ID]}
		if index && !q.grant(s, e, sessions) {
			continue
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		return q.begin(s)
	}
	return q.takeAnalyze()
}

// leaveOut takes out what needs something that could not be made.
func (q *queue) leaveOut() {
	if !q.r.refused.any() {
		return
	}
	for before := -1; before != len(q.waiting); {
		before = len(q.waiting)
		q.waiting = slices.DeleteFunc(q.waiting, func(e *archive.Entry) bool {
			if !q.r.refused.lacks(e) {
				return false
			}
			q.left[q.r.plan.Table(e)]--
			return true
		})
	}
}

// parts says whether the next step of an entry builds its index next to others.
// Small tables, and those that nothing is known of, are not worth a step more.
func (q *queue) parts(e *archive.Entry) (p parted, index bool) {
	t := q.relation(q.r.plan.Table(e))
	if t == nil && e.Kind != "INDEX" || t != nil && (t.Kind != catalog.KindTable || t.Bytes <= smallTable) && e.Kind == "CONSTRAINT" {
		return parted{}, false
	}
	p, known := q.cache[e.ID]
	if !known {
		if x, ok := partIndex(e); ok {
			p = x
		}
		q.cache[e.ID] = p
	}
	return p, p.index != "" && !q.r.done[-e.ID]
}

// grant asks for the memory of an index build. The others are builds that could begin now too.
func (q *queue) grant(s *step, e *archive.Entry, sessions int) (ok bool) {
	others := 0
	for _, x := range q.waiting {
		if others+1 >= sessions {
			break
		}
		if _, index := q.parts(x); index && x != e && !q.small(x) && q.ready(x, true, nil) {
			others++
		}
	}
	if s.memory, ok = q.memory.grant(q.size(q.r.plan.Table(e)), others); ok {
		s.setting = q.memory.setting(s.memory)
	}
	return ok
}

// batch takes entries of small tables together, so many that each idle session gets some.
func (q *queue) batch(sessions int) *step {
	s := &step{tables: map[int]bool{}}
	in := map[int]bool{}
	var picked []*archive.Entry
	for _, e := range q.waiting {
		if q.small(e) && q.ready(e, false, in) {
			picked = append(picked, e)
			in[e.ID] = true
		}
	}
	most := min(max(len(picked)/(2*sessions), 8), batchEntries)
	s.entries = picked[:min(most, len(picked))]
	in = map[int]bool{}
	for _, e := range s.entries {
		in[e.ID] = true
		for table := range q.locks[e.ID] {
			s.tables[table] = true
		}
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(e *archive.Entry) bool { return in[e.ID] })
	return q.begin(s)
}

func (q *queue) begin(s *step) *step {
	q.running++
	for table := range s.tables {
		if s.index {
			q.shared[table]++
		} else {
			q.alone[table] = true
		}
	}
	return s
}

// ready reports whether an entry may run now, given that those in with have run
// before it in the same transaction.
func (q *queue) ready(e *archive.Entry, index bool, with map[int]bool) bool {
	oid := q.r.plan.Table(e)
	if !q.all && plan.Evaluates(e) { // its functions may read other tables
		return false
	}
	if !q.all && (q.gated[oid] || q.relation(oid) == nil || q.relation(oid).Kind != catalog.KindTable) {
		return false
	}
	for _, id := range e.Dependencies {
		if q.part[id] && !q.r.done[id] && !with[id] {
			return false
		}
	}
	for table := range q.locks[e.ID] {
		if q.alone[table] || !index && q.shared[table] > 0 {
			return false
		}
	}
	return true
}

// takeAnalyze hands out tables whose entries are done. Those with others below
// them come last, when all is there.
func (q *queue) takeAnalyze() *step {
	s := &step{}
	for _, t := range q.analyze {
		last := t.Kind == catalog.KindPartitioned || t.Children
		if q.gated[t.OID] && !q.all || q.left[t.OID] > 0 || last && (!q.all || len(q.waiting) > 0 || q.running > 0) {
			continue
		}
		if len(s.oids) > 0 && (last || t.Bytes > smallTable) {
			continue
		}
		s.analyze, s.oids = append(s.analyze, t.Name()), append(s.oids, t.OID)
		if last || t.Bytes > smallTable || len(s.oids) == batchAnalyze {
			break
		}
	}
	if len(s.oids) == 0 {
		return nil
	}
	q.analyze = slices.DeleteFunc(q.analyze, func(t *catalog.Relation) bool { return slices.Contains(s.oids, t.OID) })
	return q.begin(s)
}

// release releases the tables of a step that has ended. An entry of which only the index was built
// is queued again.
func (q *queue) release(s *step) {
	q.running--
	for table := range s.tables {
		if s.index {
			q.shared[table]--
		} else {
			delete(q.alone, table)
		}
	}
	if s.index {
		q.memory.release(s.memory)
	}
	for _, e := range s.entries {
		if q.r.done[e.ID] || q.r.refused.has(e.ID) {
			q.left[q.r.plan.Table(e)]--
		} else if q.r.done[-e.ID] {
			q.waiting = slices.Insert(q.waiting, 0, e)
		}
	}
}

// budget is the memory that index builds may take on the target at once: what
// as many sessions as we have would take by the target's own configuration. A
// build that is alone gets up to half of what is free, so that it sorts in memory
// and with more processes (32 MB each, PostgreSQL documentation 19.4).
type budget struct {
	each  int64 // maintenance_work_mem in bytes
	total int64
	used  int64
}

func readBudget(ctx context.Context, conn *pgx.Conn, sessions int) (*budget, error) {
	var kib int64
	err := conn.QueryRow(ctx, `SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem'`).Scan(&kib)
	return &budget{each: kib << 10, total: kib << 10 * int64(sessions)}, pg.Wrap(err, "read maintenance_work_mem")
}

// grant gives memory to a build that can use need bytes of it, while others of
// its kind wait to begin now. ok is false when it has to wait for another one's
// end. The memory is given back with release.
func (b *budget) grant(need int64, others int) (bytes int64, ok bool) {
	least := min(need, b.each)
	if b.used > 0 && b.used+least > b.total {
		return 0, false
	}
	spare := b.total - b.used - int64(others)*b.each
	bytes = max(least, min(need, spare/2))
	b.used += bytes
	return bytes, true
}

func (b *budget) release(bytes int64) { b.used -= bytes }

// setting is what goes before the statement of a build.
func (b *budget) setting(bytes int64) string {
	if bytes <= b.each {
		return ""
	}
	return "SET LOCAL maintenance_work_mem = '" + strconv.FormatInt(bytes>>10, 10) + "kB';\n"
}
