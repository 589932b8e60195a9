package history

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// on is an operation of a client of its own on register 1, from one time to another.
func on(client, from, to int, outcome Outcome, op RegisterOp) Operation {
	op.Key = 1
	o := Operation{Token: Token{Client: client}, Kind: "register", Start: instant(from), End: instant(to), Outcome: outcome, Register: &op}
	if op.Kind != ReadRegister {
		o.Token.Seq = 1
	}
	return o
}

func reads(v int64) RegisterOp  { return RegisterOp{Kind: ReadRegister, Read: v} }
func writes(v int64) RegisterOp { return RegisterOp{Kind: WriteRegister, New: v} }
func swaps(old, v int64, done bool) RegisterOp {
	return RegisterOp{Kind: CompareAndSet, Old: old, New: v, Done: done}
}

func TestRegistersTellWhatNoOrderHas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		ops   []Operation
		final int64 // 0: there is no row
		took  []int // clients whose unknown operation the ledger has
		says  string
	}{
		{name: "nothing"},
		{name: "one after another", final: 3, ops: []Operation{on(1, 0, 10, OK, reads(0)), on(2, 20, 30, OK, writes(1)), on(3, 40, 50, OK, reads(1)),
			on(4, 60, 70, OK, swaps(1, 2, true)), on(5, 80, 90, OK, swaps(1, 9, false)), on(6, 100, 110, OK, swaps(2, 3, true))}},
		{name: "at the same time in any order", final: 1, ops: []Operation{on(1, 0, 50, OK, writes(1)), on(2, 0, 50, OK, writes(2)),
			on(3, 10, 20, OK, reads(2)), on(4, 30, 40, OK, reads(1))}},
		{name: "unknown and not there", final: 1, ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, Unknown, writes(2)), on(3, 40, 50, OK, reads(1))}},
		{name: "unknown and there, much later", final: 2, took: []int{2},
			ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, Unknown, writes(2)), on(3, 40, 50, OK, reads(1)), on(4, 60, 70, OK, reads(2))}},
		{name: "unknown, there and written over", final: 3, took: []int{2}, ops: []Operation{on(2, 20, 30, Unknown, writes(2)), on(3, 40, 50, OK, writes(3))}},
		{name: "failed and not there", ops: []Operation{on(1, 0, 10, Failed, writes(1)), on(2, 20, 30, Failed, RegisterOp{})}},

		{name: "lost write", final: 1, says: "client 3 register (ok)", ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, OK, writes(2)), on(3, 40, 50, OK, reads(1))}},
		{name: "lost in the end", says: "in the end", ops: []Operation{on(1, 0, 10, OK, writes(1))}},
		{name: "stale read", final: 2, says: "read 1", ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, OK, writes(2)), on(3, 40, 50, OK, reads(1)), on(4, 60, 70, OK, reads(2))}},
		{name: "new, then old again", final: 2, says: "read 1",
			ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 90, OK, writes(2)), on(3, 30, 40, OK, reads(2)), on(4, 50, 60, OK, reads(1))}},
		{name: "read of a failed write", final: 1, says: "read 2", ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 0, 10, Failed, writes(2)), on(3, 20, 30, OK, reads(2))}},
		{name: "read before it was written", final: 1, says: "read 1", ops: []Operation{on(3, 0, 10, OK, reads(1)), on(1, 20, 30, OK, writes(1))}},
		{name: "unknown, observed and then not", says: "client 3 register", final: 1,
			ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, Unknown, writes(2)), on(3, 40, 50, OK, reads(2))}},
		{name: "unknown, there, observed and then not", took: []int{2}, final: 1, says: "read 1",
			ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, Unknown, writes(2)), on(3, 40, 50, OK, reads(2)), on(4, 60, 70, OK, reads(1))}},
		{name: "unknown and there, but nowhere to be seen", took: []int{2}, final: 1, says: "in the end read 1",
			ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, Unknown, writes(2))}},
		{name: "two replaced the same value", final: 3, says: "found 1 and wrote", ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 40, OK, swaps(1, 2, true)), on(3, 20, 40, OK, swaps(1, 3, true))}},
		{name: "not found, though it was there", final: 1, says: "did not find 1", ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, OK, swaps(1, 2, false))}},
		{name: "replaced what was not there", final: 2, says: "found 7", ops: []Operation{on(1, 0, 10, OK, writes(1)), on(2, 20, 30, OK, swaps(7, 2, true))}},
		{name: "written by nobody", final: 9, says: "read 9"},
	} {
		final := map[int64]int64{}
		if c.final != 0 {
			final[1] = c.final
		}
		var res Result
		require.NoError(t, checkRegisters(&res, c.ops, final, func(t Token) bool {
			for _, client := range c.took {
				if t.Client == client {
					return true
				}
			}
			return false
		}))
		if c.says == "" {
			require.NoError(t, res.Err(), c.name)
			continue
		}
		require.Equal(t, 1, res.NotLinearizable.Count, c.name)
		require.False(t, res.OK(), c.name)
		require.Contains(t, res.NotLinearizable.Examples[0], "key 1: ", c.name)
		require.Contains(t, res.NotLinearizable.Examples[0], c.says, c.name)
		res.NotLinearizable = Finding{}
		require.NoError(t, res.Err(), c.name)
	}
}

// TestEachRegisterIsJudgedByItself, so that one that is wrong does not hide among many.
func TestEachRegisterIsJudgedByItself(t *testing.T) {
	t.Parallel()
	var ops []Operation
	final := map[int64]int64{}
	for i := range 9000 {
		key, v := int64(i%3), int64(i+1)
		w, r := writes(v), reads(v)
		w.Key, r.Key = key, key
		// Two clients at a time, and one in a hundred does not learn what became of its write.
		outcome := OK
		if i%100 == 0 {
			outcome = Unknown
		}
		ops = append(ops, Operation{Token: Token{Client: i, Seq: 1}, Outcome: outcome, Start: instant(20 * i), End: instant(20*i + 25), Register: &w},
			Operation{Token: Token{Client: i}, Start: instant(20*i + 30), End: instant(20*i + 35), Register: &r})
		final[key] = v
	}
	all := func(Token) bool { return true }
	var res Result
	require.NoError(t, checkRegisters(&res, ops, final, all))
	require.NoError(t, res.Err())
	require.Equal(t, len(ops), res.RegisterOps)
	final[2] = 1
	ops[301].Register.Read = 1
	res = Result{}
	require.NoError(t, checkRegisters(&res, ops, final, all))
	require.Equal(t, 2, res.NotLinearizable.Count)
	require.Contains(t, strings.Join(res.NotLinearizable.Examples, "\n"), "key 2: ")
}
