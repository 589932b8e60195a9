package apply

import "crossfade/replicate/stream"

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
