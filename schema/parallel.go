package schema

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/failpoint"
)

// parallel restores the pending entries on all sessions, an entry as soon as
// what it depends on is done. Plain CREATE INDEX statements of one table run at
// the same time; every other statement has its tables for itself, since it may
// strengthen its lock and so meet another one in a deadlock.
func (r *restorer) parallel(ctx context.Context) error {
	q := newQueue(r)
	if len(q.waiting) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	idle := append([]*pgx.Conn(nil), r.cfg.Conns...)
	results := make(chan result)
	running := 0
	var first error
	for {
		for first == nil && len(idle) > 0 {
			e := q.take()
			if e == nil {
				break
			}
			conn := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			running++
			worker := &restorer{plan: r.plan, part: r.part, cfg: r.cfg}
			go func() {
				s := worker.script(e)
				err := worker.one(ctx, conn, s)
				results <- result{conn: conn, script: s, findings: worker.report.Findings, err: err}
			}()
		}
		if running == 0 {
			break
		}
		done := <-results
		running--
		idle = append(idle, done.conn)
		q.release(done.script.entry)
		if done.err == nil {
			r.record(done.script)
			r.report.Findings = append(r.report.Findings, done.findings...)
			failpoint.Here("schema.restored")
			continue
		}
		var refused *RestoreError
		if first == nil || errors.As(done.err, &refused) && errors.Is(first, context.Canceled) {
			first = done.err
		}
	}
	if first != nil {
		return first
	}
	r.report.Waiting = len(q.waiting)
	if r.cfg.Only == nil && len(q.waiting) > 0 {
		return errors.New("the archive's entries depend on one another in a circle: " + q.waiting[0].Kind + " " + q.waiting[0].Tag)
	}
	return nil
}

type result struct {
	conn     *pgx.Conn
	script   script
	findings []Finding
	err      error
}

// queue holds the entries that have not been begun, in the archive's order. It
// is used by one goroutine.
type queue struct {
	r       *restorer
	waiting []*Entry
	part    map[int]bool         // dump ids of this part
	shared  map[int]int          // dump id of a table → entries that run on it next to one another
	alone   map[int]bool         // dump id of a table → an entry has it for itself
	locks   map[int]map[int]bool // dump id of an entry → dump ids of its tables
	index   map[int]bool         // dump id of an entry → it is one CREATE INDEX
}

func newQueue(r *restorer) *queue {
	q := &queue{r: r, waiting: r.pending(), part: map[int]bool{}, shared: map[int]int{}, alone: map[int]bool{},
		locks: map[int]map[int]bool{}, index: map[int]bool{}}
	for _, e := range r.plan.Entries(r.part) {
		q.part[e.ID] = true
		q.locks[e.ID] = q.tables(e)
		q.index[e.ID] = e.Kind == "INDEX" && len(split(e.Definition)) == 1
	}
	return q
}

// tables lists the dump ids of the tables that an entry locks.
func (q *queue) tables(e *Entry) map[int]bool {
	out := map[int]bool{}
	for _, id := range e.Dependencies {
		d := q.r.plan.byID[id]
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

// take hands out the first entry that may run now, nil if there is none.
func (q *queue) take() *Entry {
	for i, e := range q.waiting {
		if !q.ready(e) {
			continue
		}
		q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
		for table := range q.locks[e.ID] {
			if q.index[e.ID] {
				q.shared[table]++
			} else {
				q.alone[table] = true
			}
		}
		return e
	}
	return nil
}

func (q *queue) ready(e *Entry) bool {
	for _, id := range e.Dependencies {
		if q.part[id] && !q.r.done[id] {
			return false
		}
	}
	for table := range q.locks[e.ID] {
		if q.alone[table] || !q.index[e.ID] && q.shared[table] > 0 {
			return false
		}
	}
	return true
}

// release lets go of the tables of an entry that has ended.
func (q *queue) release(e *Entry) {
	for table := range q.locks[e.ID] {
		if q.index[e.ID] {
			q.shared[table]--
		} else {
			delete(q.alone, table)
		}
	}
}
