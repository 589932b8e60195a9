package history

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pays is a transfer of a client's first transaction.
func pays(client, from, to int, outcome Outcome, x Transfer) Operation {
	return Operation{Token: Token{Client: client, Seq: 1}, Start: instant(from), End: instant(to), Outcome: outcome, Transfer: &x}
}

// looks is a snapshot of three accounts, and whose first transactions it saw.
func looks(from, to int, of []int64, seen ...int) Operation {
	b := &Balances{Of: map[int64]int64{}}
	for i, v := range of {
		b.Of[int64(i+1)] = v
	}
	for _, client := range seen {
		b.Seen = append(b.Seen, Token{client, 1})
	}
	return Operation{Token: Token{Client: 9}, Kind: "balances", Start: instant(from), End: instant(to), Balances: b}
}

func TestBankTellsWhereMoneyComesOrGoes(t *testing.T) {
	t.Parallel()
	bank := Bank{Count: 3, Opening: 100}
	x := Transfer{From: 1, To: 2, Amount: 10}
	y := Transfer{From: 2, To: 3, Amount: 5}
	row := func(client int, x Transfer) madeTransfer { return madeTransfer{Token{client, 1}, x} }
	for _, c := range []struct {
		name  string
		ops   []Operation
		final []int64 // balances
		made  []madeTransfer
		want  map[string]func(*Result) *Finding // which part of the message is whose; nil: nothing is wrong
	}{
		{name: "two transfers", final: []int64{90, 105, 105}, made: []madeTransfer{row(1, x), row(2, y)},
			ops: []Operation{pays(1, 0, 10, OK, x), looks(20, 30, []int64{90, 110, 100}, 1), pays(2, 20, 30, OK, y)}},
		{name: "unknown and there", final: []int64{90, 110, 100}, made: []madeTransfer{row(1, x)},
			ops: []Operation{pays(1, 0, 10, Unknown, x), looks(0, 30, []int64{100, 100, 100}), looks(20, 30, []int64{90, 110, 100}, 1)}},
		{name: "unknown and not there", final: []int64{100, 100, 100}, ops: []Operation{pays(1, 0, 10, Unknown, x)}},
		{name: "failed and not there", final: []int64{100, 100, 100}, ops: []Operation{pays(1, 0, 10, Failed, x)}},
		{name: "a read that failed says nothing", final: []int64{100, 100, 100},
			ops: []Operation{{Outcome: Failed, Balances: &Balances{}}}},

		{name: "half a transfer was read", final: []int64{90, 110, 100}, made: []madeTransfer{row(1, x)},
			ops:  []Operation{pays(1, 0, 10, OK, x), looks(0, 30, []int64{90, 100, 100})},
			want: map[string]func(*Result) *Finding{"3 accounts with 290 in all": unbalanced}},
		{name: "an account was not read", final: []int64{100, 100, 100}, ops: []Operation{looks(0, 30, []int64{150, 150})},
			want: map[string]func(*Result) *Finding{"2 accounts with 300 in all": unbalanced}},
		{name: "doubled transfer", final: []int64{80, 120, 100}, made: []madeTransfer{row(1, x), row(1, x)}, ops: []Operation{pays(1, 0, 10, OK, x)},
			want: map[string]func(*Result) *Finding{"client 1 transaction 1 (ok): row 2": func(r *Result) *Finding { return &r.Doubled }}},
		{name: "doubled in the balances only", final: []int64{80, 120, 100}, made: []madeTransfer{row(1, x)}, ops: []Operation{pays(1, 0, 10, OK, x)},
			want: map[string]func(*Result) *Finding{"account 1 holds 80, its transfers explain 90": unbalanced}},
		{name: "the sum is right, and the balances are not", final: []int64{90, 100, 110}, made: []madeTransfer{row(1, x)}, ops: []Operation{pays(1, 0, 10, OK, x)},
			want: map[string]func(*Result) *Finding{"account 3 holds 110": unbalanced}},
		{name: "unknown in the balances only", final: []int64{90, 110, 100}, ops: []Operation{pays(1, 0, 10, Unknown, x)},
			want: map[string]func(*Result) *Finding{"account 2 holds 110, its transfers explain 100": unbalanced}},
		{name: "an account is gone", final: []int64{100, 100}, want: map[string]func(*Result) *Finding{"account 3 holds nothing": unbalanced}},
		{name: "an account more", final: []int64{100, 100, 100, 0}, want: map[string]func(*Result) *Finding{"account 4": unrecorded}},
		{name: "lost transfer", final: []int64{100, 100, 100}, ops: []Operation{pays(1, 0, 10, OK, x)},
			want: map[string]func(*Result) *Finding{"client 1 transaction 1": func(r *Result) *Finding { return &r.Lost }}},
		{name: "failed and there", final: []int64{90, 110, 100}, made: []madeTransfer{row(1, x)}, ops: []Operation{pays(1, 0, 10, Failed, x)},
			want: map[string]func(*Result) *Finding{"client 1 transaction 1": phantom}},
		{name: "not what was sent", final: []int64{100, 95, 105}, made: []madeTransfer{row(1, y)}, ops: []Operation{pays(1, 0, 10, OK, x)},
			want: map[string]func(*Result) *Finding{"sent {1 2 10}, there is {2 3 5}": func(r *Result) *Finding { return &r.Altered }}},
		{name: "sent by nobody", final: []int64{90, 110, 100}, made: []madeTransfer{row(1, x)},
			want: map[string]func(*Result) *Finding{"client 1 transaction 1": unrecorded}},
		{name: "unknown, seen and then not there", final: []int64{100, 100, 100}, ops: []Operation{pays(1, 0, 10, Unknown, x), looks(20, 30, []int64{90, 110, 100}, 1)},
			want: map[string]func(*Result) *Finding{"client 1 transaction 1 (unknown) was seen by client 9 balances": unobserved}},
		{name: "failed and seen", final: []int64{100, 100, 100}, ops: []Operation{pays(1, 0, 10, Failed, x), looks(20, 30, []int64{90, 110, 100}, 1)},
			want: map[string]func(*Result) *Finding{"seen by client 9": phantom}},
		{name: "sent by nobody and seen", final: []int64{100, 100, 100}, ops: []Operation{looks(20, 30, []int64{90, 110, 100}, 1)},
			want: map[string]func(*Result) *Finding{"seen by client 9": unrecorded}},
		{name: "seen before it began", final: []int64{90, 110, 100}, made: []madeTransfer{row(1, x)}, ops: []Operation{looks(0, 10, []int64{90, 110, 100}, 1), pays(1, 20, 30, OK, x)},
			want: map[string]func(*Result) *Finding{"which began later": func(r *Result) *Finding { return &r.Disordered }}},
	} {
		final := bankState{balances: map[int64]int64{}, made: c.made}
		for i, v := range c.final {
			final.balances[int64(i+1)] = v
		}
		var res Result
		checkBank(&res, bank, c.ops, final)
		requireFaults(t, c.name, res, c.want)
	}
}

func unbalanced(r *Result) *Finding { return &r.Unbalanced }
func unrecorded(r *Result) *Finding { return &r.Unrecorded }
func phantom(r *Result) *Finding    { return &r.Phantom }
func unobserved(r *Result) *Finding { return &r.Unobserved }

// requireFaults fails unless the faults are of the sorts that are wanted, each with its words, and of no other.
func requireFaults(t *testing.T, name string, res Result, want map[string]func(*Result) *Finding) {
	t.Helper()
	require.Equal(t, len(want) == 0, res.OK(), "%s: %v", name, res.Err())
	for says, of := range want {
		require.Positive(t, of(&res).Count, "%s: %v", name, res.Err())
		require.Contains(t, strings.Join(of(&res).Examples, "\n"), says, name)
	}
	for _, of := range want {
		*of(&res) = Finding{}
	}
	require.NoError(t, res.Err(), name)
}
