package apply

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"crossfade/replicate/stream"
)

// Kinds of operations.
const (
	opInsert    byte = 'I'
	opUpdate    byte = 'U' // of the row that the key names; the key stays
	opDelete    byte = 'D'
	opMove      byte = 'M' // an update that changes the key
	opUpdateRow byte = 'u' // of one row that equals old
	opDeleteRow byte = 'd'
	opTruncate  byte = 't'
)

// op is a change of one row, brought to the terms of the target's table.
type op struct {
	kind byte
	t    *table
	key  []stream.Value // tuple whose key columns name the row before the change
	vals []stream.Value // new tuple of I, U, M and u; what is Unchanged is left alone
	old  []stream.Value // whole old tuple of u and d
	tx   *stream.Part
}

var errIdentity = errors.New("the source sent no replica identity for it")

// opOf brings a change of a row to an operation. It may fill in the change's
// tuples, which the caller owns.
func opOf(c *stream.Change, t *table, tx *stream.Part) (op, error) {
	o := op{t: t, vals: c.NewTuple, key: c.NewTuple, tx: tx}
	for _, tuple := range [][]stream.Value{c.OldTuple, c.NewTuple} {
		if slices.ContainsFunc(tuple, func(v stream.Value) bool { return v.Kind == stream.Binary }) {
			return o, fmt.Errorf("apply change of %s: the source sent binary values, which were not asked for", t.display())
		}
	}
	switch c.Kind {
	case stream.KindInsert:
		o.kind = opInsert
	case stream.KindDelete:
		o.kind, o.key = opDelete, c.OldTuple
		if t.key == nil {
			o.kind, o.old = opDeleteRow, c.OldTuple
		}
	case stream.KindUpdate:
		o.kind = opUpdate
		if c.Old != stream.OldNone {
			o.key = c.OldTuple
			for i := range o.vals {
				// Only a whole old row holds values outside of the key.
				if o.vals[i].Kind == stream.Unchanged && (c.Old == stream.OldFull || t.isKey(i)) {
					o.vals[i] = c.OldTuple[i]
				}
			}
		}
		switch {
		case t.key == nil:
			o.kind, o.old = opUpdateRow, c.OldTuple
		case c.Old != stream.OldNone && !t.sameKey(c.OldTuple, c.NewTuple):
			o.kind = opMove
		}
	}
	return o, o.validate(c)
}

func (o *op) validate(c *stream.Change) error {
	fail := func() error {
		return &DriftError{Relation: o.t.display(), Problems: []string{"a change of it cannot name its row: " + errIdentity.Error()}}
	}
	switch o.kind {
	case opUpdateRow, opDeleteRow:
		if c.Old != stream.OldFull {
			return fail()
		}
	case opUpdate, opDelete, opMove:
		for _, i := range o.t.key {
			if o.key[i].Kind != stream.Text {
				return fail()
			}
		}
	}
	return nil
}

// complete reports whether the new tuple has a value for every column.
func (o *op) complete() bool {
	return !slices.ContainsFunc(o.vals, func(v stream.Value) bool { return v.Kind == stream.Unchanged })
}

// set returns the columns that the operation sets: all that were sent and are not computed on the
// target, without the key unless it changes; of a whole row those that differ.
func (o *op) set() []int {
	var cols []int
	for _, i := range o.t.stored {
		v := o.vals[i]
		if v.Kind == stream.Unchanged || (o.kind == opUpdate && o.t.isKey(i)) {
			continue
		}
		if o.old != nil && v.Kind == o.old[i].Kind && bytes.Equal(v.Data, o.old[i].Data) {
			continue
		}
		cols = append(cols, i)
	}
	return cols
}

// change names the change for an error.
func (o *op) change() string {
	switch o.kind {
	case opInsert:
		return "insert"
	case opDelete, opDeleteRow:
		return "delete"
	case opTruncate:
		return "truncate"
	default:
		return "update"
	}
}

// row names the row for an error.
func (o *op) row() string {
	if o.old != nil {
		return o.t.describe(o.old)
	}
	return o.t.describe(o.key)
}
