package apply

import (
	"cmp"
	"slices"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// step is one statement to run, with its parameters.
type step struct {
	stmt   *statement
	params [][]byte
	want   int64 // rows it must change; -1 if it proves that by itself or there is nothing to prove
	op     *op   // for messages, where the step is of one row
	once   bool  // not worth preparing
}

// planner turns operations into steps. Those of one table keep their order as
// far as it matters; the order between tables does not, since nothing on the
// target reacts and a batch is one transaction.
type planner struct {
	shapes  func(shape) *statement
	byRow   bool // one step for each operation, in the order of the source
	steps   []step
	pending map[*table]*pending
	order   []*pending
	latest  map[pg.Name]*pending // of the table's descriptions, the one that the last change came under
}

// pending holds what was gathered for one table and is no step yet.
type pending struct {
	t     *table
	rows  []*row
	index map[string]*row
}

// row is the net effect of the operations on one row so far.
type row struct {
	net  byte // 0 (none), opInsert, opUpdate, opDelete, or netReplace
	name string
	key  []stream.Value
	vals []stream.Value
	own  bool // vals is a copy: the change itself may have to be replayed
}

const netReplace byte = 'R' // delete and insert

func newPlanner(shapes func(shape) *statement, byRow bool) *planner {
	return &planner{shapes: shapes, byRow: byRow, pending: map[*table]*pending{}, latest: map[pg.Name]*pending{}}
}

// add takes the next operation.
func (p *planner) add(o op) {
	if p.byRow {
		p.single(o)
		return
	}
	q := p.pending[o.t]
	if q == nil {
		q = &pending{t: o.t, index: map[string]*row{}}
		p.pending[o.t], p.order = q, append(p.order, q)
	}
	if before := p.latest; before[o.t.into] != q {
		// The source describes the table otherwise from here on, with another replica identity for
		// one, or it is another leaf of it: what came before it is done before it.
		if before[o.t.into] != nil {
			p.flush(before[o.t.into])
		}
		before[o.t.into] = q
	}
	if !o.t.coalesce || len(o.t.stored) == 0 {
		p.addPlain(q, o)
		return
	}
	if o.kind != opMove {
		p.merge(q, o)
		return
	}
	if o.complete() {
		p.merge(q, op{kind: opDelete, t: o.t, key: o.key, tx: o.tx})
		p.merge(q, op{kind: opInsert, t: o.t, key: o.vals, vals: o.vals, tx: o.tx})
		return
	}
	// Values that were not sent must stay in their row.
	p.flush(q)
	p.single(o)
}

// addPlain gathers inserts only; anything else keeps its place.
func (p *planner) addPlain(q *pending, o op) {
	if o.kind == opInsert && len(o.t.stored) > 0 {
		q.rows = append(q.rows, &row{net: opInsert, vals: o.vals})
		return
	}
	p.flush(q)
	p.single(o)
}

// merge folds the operation into its row's net effect. What cannot follow the
// net effect so far is kept in order, for the target to judge.
func (p *planner) merge(q *pending, o op) {
	name := string(o.t.keyOf(nil, o.key))
	r := q.index[name]
	if r != nil && !r.follow(&o) {
		p.flush(q)
		r = nil
	}
	if r == nil {
		r = &row{net: o.kind, name: name, key: o.key, vals: o.vals}
		q.rows, q.index[name] = append(q.rows, r), r
	}
}

// follow applies the operation to the row's net effect, or reports that it cannot come next.
func (r *row) follow(o *op) bool {
	switch o.kind {
	case opInsert:
		switch r.net {
		case 0:
			r.net = opInsert
		case opDelete:
			r.net = netReplace
		default:
			return false
		}
		r.vals, r.own = o.vals, false
		if r.net == opInsert {
			r.key = o.key
		}
	case opUpdate:
		if r.net == 0 || r.net == opDelete {
			return false
		}
		if !r.own {
			r.vals, r.own = slices.Clone(r.vals), true
		}
		for i, v := range o.vals {
			if v.Kind != stream.Unchanged {
				r.vals[i] = v
			}
		}
	case opDelete:
		switch r.net {
		case opInsert:
			r.net, r.vals = 0, nil
		case opUpdate, netReplace:
			r.net, r.vals = opDelete, nil
		default:
			return false
		}
	}
	return true
}

// flush makes steps of what is pending for a table: deletes first, so that
// their unique values are free, then updates, then inserts.
func (p *planner) flush(q *pending) {
	if len(q.rows) == 0 {
		return
	}
	if q.t.coalesce {
		slices.SortFunc(q.rows, func(a, b *row) int {
			return cmp.Or(cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
		})
	}
	var deletes, inserts []*row
	updates := map[string][]*row{}
	var sets []string
	for _, r := range q.rows {
		switch r.net {
		case opDelete:
			deletes = append(deletes, r)
		case netReplace:
			deletes, inserts = append(deletes, r), append(inserts, r)
		case opInsert:
			inserts = append(inserts, r)
		case opUpdate:
			o := op{kind: opUpdate, t: q.t, vals: r.vals}
			set := columnSet(o.set())
			if updates[set] == nil {
				sets = append(sets, set)
			}
			updates[set] = append(updates[set], r)
		}
	}
	p.emit(q.t, 'D', "", deletes)
	for _, set := range sets {
		p.emit(q.t, 'U', set, updates[set])
	}
	p.emit(q.t, 'I', "", inserts)
	q.rows = nil
	clear(q.index)
}

// emit makes one step of rows that one statement treats alike.
func (p *planner) emit(t *table, kind byte, set string, rows []*row) {
	if len(rows) == 0 {
		return
	}
	s := shape{table: t, op: kind, set: set, check: !p.byRow}
	var params [][]byte
	written := t.stored
	if kind != 'I' {
		if kind == 'U' && set == "" {
			s.op = 'x'
		}
		for _, i := range t.key {
			params = append(params, t.cols[i].asKey().param(len(rows), func(n int) stream.Value { return rows[n].key[i] }))
		}
		written = columnsOf(set)
	}
	for _, i := range written {
		params = append(params, t.cols[i].param(len(rows), func(n int) stream.Value { return rows[n].vals[i] }))
	}
	want := int64(-1)
	if !s.check {
		want = int64(len(rows))
	}
	p.steps = append(p.steps, step{stmt: p.shapes(s), params: params, want: want})
}

// flushAll makes steps of everything that is pending.
func (p *planner) flushAll() {
	for _, q := range p.order {
		p.flush(q)
	}
}

// truncate empties tables as one statement. It says nothing of CASCADE: the
// source named every table that was reached.
func (p *planner) truncate(tables []*table, restart bool, tx *stream.Part) {
	p.flushAll()
	names := lists.Map(tables, func(t *table) string { return t.only + t.into.String() })
	sql := "TRUNCATE TABLE " + strings.Join(names, ", ")
	if restart {
		sql += " RESTART IDENTITY"
	}
	p.steps = append(p.steps, step{
		stmt: &statement{sql: sql + " RESTRICT"}, want: -1, once: true,
		op: &op{kind: opTruncate, t: &table{into: pg.Name{Name: strings.Join(names, ", ")}}, tx: tx},
	})
}

// single makes steps of one operation by itself.
func (p *planner) single(o op) {
	switch {
	case o.kind == opUpdateRow || o.kind == opDeleteRow:
		p.wholeRow(o)
		return
	case o.kind == opInsert && len(o.t.stored) == 0:
		p.one(shape{table: o.t, op: 'I'}, nil, &o)
		return
	case o.kind == opMove && o.complete():
		// An identity column GENERATED ALWAYS can be inserted, not updated.
		del, ins := o, o
		del.kind, ins.kind, ins.key = opDelete, opInsert, o.vals
		p.single(del)
		p.single(ins)
		return
	}
	kind, set := o.kind, ""
	if kind == opUpdate || kind == opMove {
		kind, set = 'U', columnSet(o.set())
	}
	p.emit(o.t, kind, set, []*row{{key: o.key, vals: o.vals}})
	p.steps[len(p.steps)-1].op = &o
}

// wholeRow makes the step that changes one row equal to the old one. Its
// statement has the values themselves as parameters, in text.
func (p *planner) wholeRow(o op) {
	nulls := make([]byte, len(o.t.stored))
	var params [][]byte
	for n, i := range o.t.stored {
		if o.old[i].Kind == stream.Null {
			nulls[n] = 1
			continue
		}
		params = append(params, param(o.old[i]))
	}
	s := shape{table: o.t, op: o.kind, null: string(nulls)}
	if o.kind == opUpdateRow {
		set := o.set()
		s.set = columnSet(set)
		for _, i := range set {
			params = append(params, param(o.vals[i]))
		}
	}
	p.one(s, params, &o)
}

// one makes a step of a statement that is of one row.
func (p *planner) one(s shape, params [][]byte, o *op) {
	want := int64(1)
	if s.check = !p.byRow; s.check {
		want = -1
	}
	p.steps = append(p.steps, step{stmt: p.shapes(s), params: params, want: want, op: o})
}

// param gives a value as a parameter in text format: nil is NULL, and an empty value is not.
func param(v stream.Value) []byte {
	if v.Kind == stream.Null {
		return nil
	}
	if v.Data == nil {
		return []byte{}
	}
	return v.Data
}
