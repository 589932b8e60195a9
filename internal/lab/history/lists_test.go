package history

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// instant is a time so many milliseconds after the begin of a test's history.
func instant(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }

func app(key, value int64) ListOp            { return ListOp{Key: key, Append: value} }
func read(key int64, values ...int64) ListOp { return ListOp{Key: key, Read: values} }

// txn is a transaction of a client of its own, from one time to another.
func txn(client, from, to int, outcome Outcome, ops ...ListOp) Operation {
	return Operation{Token: Token{Client: client, Seq: 1}, Start: instant(from), End: instant(to), Outcome: outcome, Lists: ops}
}

func TestListsTellWhatNoSerialExecutionDoes(t *testing.T) {
	t.Parallel()
	both := []ListOp{read(1, 1), read(2, 2)}
	for _, c := range []struct {
		name  string
		ops   []Operation
		final []ListOp
		want  func(Result) Finding // nil: nothing is wrong
		says  string
	}{
		{name: "one after another", final: []ListOp{read(1, 1, 2)}, ops: []Operation{
			txn(1, 0, 10, OK, read(1), app(1, 1)), txn(2, 20, 30, OK, read(1, 1), app(1, 2)), txn(3, 20, 40, OK, read(1, 1))}},
		{name: "unknown and there", final: []ListOp{read(1, 1)}, ops: []Operation{txn(1, 0, 10, Unknown, app(1, 1))}},
		{name: "unknown and not there", final: []ListOp{}, ops: []Operation{txn(1, 0, 10, Unknown, app(1, 1))}},
		{name: "failed and not there", final: []ListOp{}, ops: []Operation{txn(1, 0, 10, Failed, read(1, 7), app(1, 1))}},
		{name: "own appends are read", final: []ListOp{read(1, 1, 2)}, ops: []Operation{
			txn(1, 0, 10, OK, app(1, 1), read(1, 1), app(1, 2), read(1, 1, 2))}},

		{name: "lost in the end", final: []ListOp{}, want: func(r Result) Finding { return r.Lost }, says: "value 1 of key 1",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1))}},
		{name: "applied twice", final: []ListOp{read(1, 1, 1)}, want: func(r Result) Finding { return r.Doubled }, says: "value 1 of key 1",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1))}},
		{name: "failed and there", final: []ListOp{read(1, 1)}, want: func(r Result) Finding { return r.Phantom }, says: "its transaction failed",
			ops: []Operation{txn(1, 0, 10, Failed, app(1, 1))}},
		{name: "appended by none", final: []ListOp{read(1, 9)}, want: func(r Result) Finding { return r.Unrecorded }, says: "value 9 of key 1",
			ops: []Operation{txn(1, 0, 10, OK, read(1))}},
		{name: "two orders", final: []ListOp{read(1, 1, 2)}, want: func(r Result) Finding { return r.Disagreeing }, says: "read [2]",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1)), txn(2, 0, 10, OK, app(1, 2)), txn(3, 5, 10, OK, read(1, 2))}},
		{name: "half a transaction", final: []ListOp{read(1, 1, 2)}, want: func(r Result) Finding { return r.Disagreeing }, says: "from the middle",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1), app(1, 2)), txn(3, 5, 10, OK, read(1, 1))}},
		{name: "write skew", final: both, want: func(r Result) Finding { return r.Cycles }, says: "rw of key",
			ops: []Operation{txn(1, 0, 10, OK, read(1), app(2, 2)), txn(2, 0, 10, OK, read(2), app(1, 1))}},
		{name: "each sees the other", final: both, want: func(r Result) Finding { return r.Cycles }, says: "wr of key",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1), read(2, 2)), txn(2, 0, 10, OK, app(2, 2), read(1, 1))}},
		{name: "read skew", final: both, want: func(r Result) Finding { return r.Cycles }, says: "rw of key",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1), app(2, 2)), txn(2, 0, 20, OK, read(1, 1), read(2))}},
		{name: "what was acknowledged is not read", final: []ListOp{read(1, 1)}, want: func(r Result) Finding { return r.Cycles }, says: "ended before",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1)), txn(2, 20, 30, OK, read(1))}},
		{name: "an order against time", final: []ListOp{read(1, 2, 1)}, want: func(r Result) Finding { return r.Cycles }, says: "ww of key 1",
			ops: []Operation{txn(1, 0, 10, OK, app(1, 1)), txn(2, 20, 30, OK, app(1, 2))}},
	} {
		var res Result
		checkLists(&res, c.ops, c.final)
		if c.want == nil {
			require.True(t, res.OK(), "%s: %v", c.name, res.Err())
			continue
		}
		f := c.want(res)
		require.Positive(t, f.Count, "%s: %v", c.name, res.Err())
		require.Contains(t, strings.Join(f.Examples, "\n"), c.says, c.name)
	}
}

// TestManyTransactionsOnListsAreJudged in a time that grows with their number, not its square.
func TestManyTransactionsOnListsAreJudged(t *testing.T) {
	t.Parallel()
	var ops []Operation
	lists := map[int64][]int64{}
	for i := range 20_000 {
		key := int64(i % 7)
		o := txn(i, 10*i, 10*i+15, OK, ListOp{Key: key, Read: lists[key]}, app(key, int64(i+1)))
		if len(lists[key]) < 200 {
			lists[key] = append(lists[key], int64(i+1))
		} else {
			o.Lists = o.Lists[:1]
		}
		ops = append(ops, o)
	}
	var final []ListOp
	for key, list := range lists {
		final = append(final, read(key, list...))
	}
	var res Result
	checkLists(&res, ops, final)
	require.NoError(t, res.Err())
	ops[15_000].Lists = []ListOp{read(3, lists[3][:5]...)}
	res = Result{}
	checkLists(&res, ops, final)
	require.Equal(t, 1, res.Cycles.Count)
}
