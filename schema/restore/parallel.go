package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
)

// parallel restores the pending entries on all sessions, an entry as soon as its
// table is copied and what it depends on is done. Builds of indexes of one table
// run at the same time; every other statement has its tables for itself, since it
// may strengthen its lock and so meet another one in a deadlock. Entries of small
// tables share transactions. Each table is analysed when its entries are done.
func (r *restorer) parallel(ctx context.Context) error {
	q := newQueue(r)
	if r.cfg.Copied == nil && len(q.waiting) == 0 && len(q.analyze) == 0 {
		return nil
	}
	var err error
	if q.memory, err = readBudget(ctx, r.cfg.Conns[0], len(r.cfg.Conns)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	idle := append([]*pgx.Conn(nil), r.cfg.Conns...)
	results := make(chan result)
	copied, quit, running := r.cfg.Copied, ctx.Done(), 0
	if copied == nil {
		q.allCopied()
	}
	var first error
	for {
		for first == nil && len(idle) > 0 {
			s := q.take(len(idle))
			if s == nil {
				break
			}
			conn := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			running++
			worker := &restorer{plan: r.plan, part: r.part, cfg: r.cfg, refused: r.refused}
			go func() {
				scripts, err := worker.step(ctx, conn, s)
				results <- result{conn: conn, step: s, scripts: scripts, findings: worker.report.Findings, err: err}
			}()
		}
		if running == 0 && (copied == nil || first != nil) {
			break
		}
		select {
		case oid, ok := <-copied:
			if !ok {
				copied = nil
				q.allCopied()
			} else {
				delete(q.gated, oid)
			}
		case <-quit:
			if first == nil {
				first = context.Cause(ctx)
			}
			copied, quit = nil, nil
		case done := <-results:
			running--
			idle = append(idle, done.conn)
			for _, s := range done.scripts {
				if s.item() == s.entry.ID {
					r.record(s)
				} else {
					r.done[s.item()] = true
				}
			}
			r.report.Findings = append(r.report.Findings, done.findings...)
			q.release(done.step)
			if done.err == nil {
				failpoint.Here("schema.restored")
				continue
			}
			if first == nil || errors.As(done.err, new(*Error)) && errors.Is(first, context.Canceled) {
				first = done.err
			}
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
	step     *step
	scripts  []script // that have committed
	findings []finding.Finding
	err      error
}

// step executes a step and returns what has committed of it.
func (r *restorer) step(ctx context.Context, conn *pgx.Conn, s *step) (done []script, err error) {
	if len(s.analyze) > 0 {
		return nil, r.analyze(ctx, conn, s.analyze)
	}
	scripts := lists.Map(s.entries, r.script)
	switch {
	case s.index:
		scripts[0].sql = s.setting + s.parted.index
		scripts[0].half = s.parted.rest != ""
	case s.parted.index != "":
		scripts[0].sql = s.parted.rest
	}
	err = r.execute(ctx, conn, scripts, func(committed ...script) { done = append(done, committed...) })
	return done, err
}

// analyze gives the planner statistics of tables. That a table cannot be analysed,
// such as one with a foreign table as a partition, becomes a finding.
func (r *restorer) analyze(ctx context.Context, conn *pgx.Conn, tables []pg.Name) error {
	sql := "ANALYZE " + strings.Join(lists.Map(tables, pg.Name.String), ", ")
	if r.cfg.Path != "" { // it evaluates the expressions of indexes
		sql = "SET LOCAL search_path = " + r.cfg.Path + "; " + sql
	}
	err := pg.Exec(ctx, conn, sql)
	refused, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case !ok || conn.IsClosed() || ctx.Err() != nil || pg.ConnectionLost(err):
		return fmt.Errorf("analyse %s: %w", tables[0].Display(), err)
	case len(tables) == 1:
		r.report.Findings = append(r.report.Findings, finding.Finding{Kind: "STATISTICS", Schema: tables[0].Schema, Name: tables[0].Name,
			SQLSTATE: refused.Code, Harmless: true, Message: "the planner has none: " + refused.Message, Remedy: "run ANALYZE on the target"})
		return nil
	}
	for i := range tables {
		if err := r.analyze(ctx, conn, tables[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// familyKinds are the entries of the pre-data that make a table or a sequence, or set a property of
// one.
var familyKinds = map[string]bool{"TABLE": true, "TABLE ATTACH": true, "SEQUENCE": true, "SEQUENCE OWNED BY": true, "DEFAULT": true, "COMMENT": true}

// families splits entries in the archive's order into those that come before all tables, the
// families of tables, and those that come after them. A family is what hangs together by
// dependencies: a table with its sequences and defaults, a tree of partitions. No statement of one
// locks or changes what belongs to another, so that they may be restored side by side. An entry
// that needs a view or the like is among those after them.
func families(entries []*archive.Entry) (before []*archive.Entry, all [][]*archive.Entry, after []*archive.Entry) {
	first := slices.IndexFunc(entries, func(e *archive.Entry) bool { return e.Kind == "TABLE" || e.Kind == "SEQUENCE" })
	if first < 0 {
		return entries, nil, nil
	}
	before, entries = entries[:first], entries[first:]
	late := map[int]bool{} // entries after the first table that are no members
	parent := map[int]int{}
	root := func(id int) int {
		for parent[id] != id {
			parent[id] = parent[parent[id]]
			id = parent[id]
		}
		return id
	}
	var members []*archive.Entry
	for _, e := range entries {
		if !familyKinds[e.Kind] || slices.ContainsFunc(e.Dependencies, func(id int) bool { return late[id] }) {
			late[e.ID] = true
			after = append(after, e)
			continue
		}
		parent[e.ID] = e.ID
		for _, id := range e.Dependencies {
			if _, ok := parent[id]; ok {
				parent[root(e.ID)] = root(id)
			}
		}
		members = append(members, e)
	}
	at := map[int]int{}
	for _, e := range members {
		n, ok := at[root(e.ID)]
		if !ok {
			n = len(all)
			at[root(e.ID)] = n
			all = append(all, nil)
		}
		all[n] = append(all[n], e)
	}
	return before, all, after
}

// sideBySide restores the pre-data on all sessions: the families of tables at the
// same time, what comes before and after them in order.
func (r *restorer) sideBySide(ctx context.Context) error {
	before, all, after := families(r.pending())
	if err := r.inOrder(ctx, r.cfg.Conns[0], before); err != nil {
		return err
	}
	work := make(chan []*archive.Entry, len(all))
	for _, shared := range share(all, len(r.cfg.Conns)) {
		work <- shared
	}
	close(work)
	workers := make([]*restorer, len(r.cfg.Conns))
	var group errgroup.Group
	var failed atomic.Bool
	for i, conn := range r.cfg.Conns {
		w := &restorer{plan: r.plan, part: r.part, cfg: r.cfg, done: map[int]bool{}, refused: r.refused}
		workers[i] = w
		group.Go(func() error {
			for entries := range work {
				if failed.Load() {
					return nil
				}
				if err := w.inOrder(ctx, conn, entries); err != nil {
					failed.Store(true)
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	for _, w := range workers {
		for id := range w.done {
			r.done[id] = true
		}
		r.report.Done += w.report.Done
		r.report.Findings = append(r.report.Findings, w.report.Findings...)
	}
	if err != nil {
		return err
	}
	slices.SortStableFunc(r.report.Findings, func(a, b finding.Finding) int { return a.ID - b.ID })
	return r.inOrder(ctx, r.cfg.Conns[0], after)
}

// share puts families together, so that each session gets some lots of work and none
// holds much more than a batch.
func share(all [][]*archive.Entry, sessions int) (lots [][]*archive.Entry) {
	total := 0
	for _, f := range all {
		total += len(f)
	}
	most := min(max(total/(4*sessions), 1), batchEntries)
	var lot []*archive.Entry
	for _, f := range all {
		if len(lot) > 0 && len(lot)+len(f) > most {
			lots, lot = append(lots, lot), nil
		}
		lot = append(lot, f...)
	}
	if len(lot) > 0 {
		lots = append(lots, lot)
	}
	// The largest first: a tree of partitions is one family.
	slices.SortStableFunc(lots, func(a, b []*archive.Entry) int { return len(b) - len(a) })
	return lots
}
