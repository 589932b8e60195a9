package history

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"crossfade/internal/base/pg"
)

// RegisterKind is what an operation does with a register.
type RegisterKind int

// The kinds. A write is blind; a compare-and-set writes only where it finds what it expects.
const (
	ReadRegister RegisterKind = iota
	WriteRegister
	CompareAndSet
)

// RegisterOp is one transaction, at READ COMMITTED, on one register: a row that holds a number. A
// register without a row holds 0, which nobody writes or expects.
type RegisterOp struct {
	Key  int64
	Kind RegisterKind
	Read int64 // what a read returned
	Old  int64 // what a compare-and-set expects
	New  int64 // what is written; no value is written to a key twice
	Done bool  // whether a compare-and-set found Old, and so wrote New
}

func (r RegisterOp) String() string {
	switch {
	case r.Kind == ReadRegister:
		return fmt.Sprintf("read %d", r.Read)
	case r.Kind == WriteRegister:
		return fmt.Sprintf("wrote %d", r.New)
	case r.Done:
		return fmt.Sprintf("found %d and wrote %d", r.Old, r.New)
	default:
		return fmt.Sprintf("did not find %d", r.Old)
	}
}

// RegistersDDL returns the statement that makes the table of the registers. A row is made by the
// first write to its key.
func RegistersDDL(table pg.Name) string {
	return `CREATE TABLE ` + table.String() + ` (key bigint PRIMARY KEY, value bigint NOT NULL)`
}

// readRegisters reads what the registers hold in the end.
func readRegisters(ctx context.Context, q Querier, table pg.Name) (map[int64]int64, error) {
	final := map[int64]int64{}
	var key, value int64
	err := forEach(ctx, q, "registers "+table.Display(), `SELECT key, value FROM `+table.String(), []any{&key, &value}, func() { final[key] = value })
	return final, err
}

// registersTimeout bounds the search for an order of the operations on one register. It is far
// beyond what a history of thousands takes unless very many outcomes of one key are unknown.
const registersTimeout = time.Minute

// register is the sequential specification of a register, from which the operations' order is
// searched.
var register = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		holds, op := state.(int64), input.(RegisterOp)
		switch {
		case op.Kind == ReadRegister:
			return op.Read == holds, holds
		case op.Kind == WriteRegister:
			return true, op.New
		case op.Done:
			return op.Old == holds, op.New
		default:
			return op.Old != holds, holds
		}
	},
}

// inTheEnd is the kind of the read that checkRegisters makes itself.
const inTheEnd = "the register in the end"

// checkRegisters adds to res each register of which the operations, and what it holds in the end,
// fit no order in which each operation takes place at one moment between its start and its end.
//
// A failed operation has no effect. One of unknown outcome took place if tookPlace says so, as the
// ledger tells that its transaction wrote into; when is then not known, at any time after its
// start, so that it returns after all others. It is an error if a register cannot be judged in time.
func checkRegisters(res *Result, ops []Operation, final map[int64]int64, tookPlace func(Token) bool) error {
	byKey := map[int64][]Operation{}
	for key := range final {
		byKey[key] = nil
	}
	var begin, end time.Time
	for _, o := range ops {
		if o.Register == nil {
			continue
		}
		if o.Outcome == Failed || o.Outcome == Unknown && !tookPlace(o.Token) {
			continue
		}
		res.RegisterOps++
		byKey[o.Register.Key] = append(byKey[o.Register.Key], o)
		if begin.IsZero() || o.Start.Before(begin) {
			begin = o.Start
		}
		if o.End.After(end) {
			end = o.End
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		last := Operation{Kind: inTheEnd, Start: end.Add(2), End: end.Add(2),
			Register: &RegisterOp{Key: key, Kind: ReadRegister, Read: final[key]}}
		h := registerHistory(append(byKey[key], last), begin, end.Add(1))
		switch porcupine.CheckOperationsTimeout(register, h, registersTimeout) {
		case porcupine.Ok:
		case porcupine.Illegal:
			o := misfit(h)
			who := fmt.Sprintf("%s (%v) from %s to %s", o.name(), o.Outcome, o.Start.UTC().Format(timeFormat), o.End.UTC().Format(timeFormat))
			if o.Kind == inTheEnd {
				who = "the reader in the end"
			}
			res.NotLinearizable.add("key %d: %s %v, for which its %d operations have no order", key, who, *o.Register, len(h))
		default:
			return fmt.Errorf("judge the %d operations on register %d: no verdict within %v", len(h), key, registersTimeout)
		}
	}
	return nil
}

// registerHistory is ops as the library takes them, with times since begin; forever is when an
// operation of unknown outcome returns. The operation itself goes along, for messages.
func registerHistory(ops []Operation, begin, forever time.Time) []porcupine.Operation {
	h := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		returned := o.End
		if o.Outcome == Unknown {
			returned = forever
		}
		h[i] = porcupine.Operation{ClientId: o.Token.Client, Input: *o.Register, Metadata: o,
			Call: int64(o.Start.Sub(begin)), Return: int64(returned.Sub(begin))}
	}
	return h
}

// misfit is the operation that keeps the longest order from going on: of those that are not in
// it, the first that returned.
func misfit(h []porcupine.Operation) Operation {
	var longest []int
	_, info := porcupine.CheckOperationsVerbose(register, h, registersTimeout)
	for _, partition := range info.PartialLinearizations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	first := -1
	for i, o := range h {
		if !slices.Contains(longest, i) && (first < 0 || o.Return < h[first].Return) {
			first = i
		}
	}
	return h[max(first, 0)].Metadata.(Operation)
}
