package history

import "testing"

// tries is a client's first transaction, which tries key k.
func tries(client, from, to int, outcome Outcome, isNew bool) Operation {
	return Operation{Token: Token{client, 1}, Start: instant(from), End: instant(to), Outcome: outcome, Attempt: &Attempt{Key: "k", New: isNew}}
}

func TestKeysTellWhatTookEffectNotOnce(t *testing.T) {
	t.Parallel()
	lost := func(r *Result) *Finding { return &r.Lost }
	doubled := func(r *Result) *Finding { return &r.Doubled }
	altered := func(r *Result) *Finding { return &r.Altered }
	for _, c := range []struct {
		name    string
		ops     []Operation
		effects []int                             // clients whose first transaction made the effect of k
		claims  []string                          // nil: k, if it has an effect
		want    map[string]func(*Result) *Finding // which part of the message is whose; nil: nothing is wrong
	}{
		{name: "new, and there for all later", effects: []int{1}, ops: []Operation{tries(1, 0, 10, OK, true), tries(2, 20, 30, OK, false), tries(3, 40, 50, OK, false)}},
		{name: "two at once", effects: []int{2}, ops: []Operation{tries(1, 0, 30, OK, false), tries(2, 0, 30, OK, true)}},
		{name: "unknown, tried again, there", effects: []int{1}, ops: []Operation{tries(1, 0, 10, Unknown, true), tries(2, 20, 30, OK, false)}},
		{name: "unknown, tried again, new", effects: []int{2}, ops: []Operation{tries(1, 0, 10, Unknown, true), tries(2, 20, 30, OK, true)}},
		{name: "unknown twice, and then there", effects: []int{2}, ops: []Operation{tries(1, 0, 10, Unknown, true), tries(2, 20, 30, Unknown, true), tries(3, 40, 50, OK, false)}},
		{name: "unknown and there", effects: []int{1}, ops: []Operation{tries(1, 0, 10, Unknown, true)}},
		{name: "unknown and not there", ops: []Operation{tries(1, 0, 10, Unknown, true)}},
		{name: "failed, tried again, new", effects: []int{2}, ops: []Operation{tries(1, 0, 10, Failed, true), tries(2, 20, 30, OK, true)}},

		{name: "two effects", effects: []int{1, 2}, ops: []Operation{tries(1, 0, 10, Unknown, true), tries(2, 20, 30, OK, true)},
			want: map[string]func(*Result) *Finding{"key k: effect 2, of client 2": doubled}},
		{name: "two effects of one", effects: []int{1, 1}, ops: []Operation{tries(1, 0, 10, OK, true)},
			want: map[string]func(*Result) *Finding{"key k: effect 2, of client 1": doubled}},
		{name: "new for two, one after the other", effects: []int{1}, ops: []Operation{tries(1, 0, 10, OK, true), tries(2, 20, 30, OK, true)},
			want: map[string]func(*Result) *Finding{"were told that it was new": doubled, "client 2 transaction 1 (ok), which began later": unobserved}},
		{name: "new for two at once", effects: []int{1}, ops: []Operation{tries(1, 0, 30, OK, true), tries(2, 0, 30, OK, true)},
			want: map[string]func(*Result) *Finding{"were told that it was new": doubled}},
		{name: "new and not there", ops: []Operation{tries(1, 0, 10, OK, true)},
			want: map[string]func(*Result) *Finding{"told at 00:00:00.010000 that it was new": lost}},
		{name: "new, and the effect is another's", effects: []int{2}, ops: []Operation{tries(1, 0, 10, OK, true), tries(2, 0, 10, Unknown, true)},
			want: map[string]func(*Result) *Finding{"the effect of client 1": lost}},
		{name: "unknown, observed and then not there", ops: []Operation{tries(1, 0, 10, Unknown, true), tries(2, 20, 30, OK, false)},
			want: map[string]func(*Result) *Finding{"that it was there": lost}},
		{name: "unknown, observed and then new", effects: []int{3},
			ops:  []Operation{tries(1, 0, 10, Unknown, true), tries(2, 20, 30, OK, false), tries(3, 40, 50, OK, true)},
			want: map[string]func(*Result) *Finding{"client 2 transaction 1 was told at 00:00:00.030000 that it was there; client 3": unobserved}},
		{name: "unknown, observed and then made by a later unknown", effects: []int{3},
			ops:  []Operation{tries(1, 0, 10, Unknown, true), tries(2, 20, 30, OK, false), tries(3, 40, 50, Unknown, true)},
			want: map[string]func(*Result) *Finding{"client 3 transaction 1 (unknown), which began later": unobserved}},
		{name: "failed and there", effects: []int{1}, ops: []Operation{tries(1, 0, 10, Failed, true)},
			want: map[string]func(*Result) *Finding{"the effect of client 1": phantom}},
		{name: "there, and yet its effect", effects: []int{1}, ops: []Operation{tries(1, 0, 10, OK, false)},
			want: map[string]func(*Result) *Finding{"which was told that the key was there": altered}},
		{name: "the effect of a stranger", effects: []int{7}, ops: []Operation{tries(1, 0, 10, Unknown, true)},
			want: map[string]func(*Result) *Finding{"client 7 transaction 1, which did not try it": unrecorded}},
		{name: "an effect of a key that nobody tried", effects: []int{7},
			want: map[string]func(*Result) *Finding{"was not tried": unrecorded}},
		{name: "an effect and no claim", effects: []int{1}, claims: []string{}, ops: []Operation{tries(1, 0, 10, OK, true)},
			want: map[string]func(*Result) *Finding{"an effect and no claim": altered}},
		{name: "a claim and no effect", claims: []string{"k"}, ops: []Operation{tries(1, 0, 10, Unknown, true)},
			want: map[string]func(*Result) *Finding{"a claim and no effect": altered}},
	} {
		final := keysState{claimed: map[string]bool{}, effects: map[string][]Token{}}
		for _, client := range c.effects {
			final.effects["k"] = append(final.effects["k"], Token{client, 1})
		}
		if c.claims == nil && len(c.effects) > 0 {
			c.claims = []string{"k"}
		}
		for _, key := range c.claims {
			final.claimed[key] = true
		}
		var res Result
		checkKeys(&res, c.ops, final)
		requireFaults(t, c.name, res, c.want)
	}
}
