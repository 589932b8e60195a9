package restore

import (
	"context"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"crossfade/schema/archive"
	"crossfade/schema/finding"
)

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
