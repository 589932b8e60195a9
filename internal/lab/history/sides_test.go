package history

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func at(side string, start, end int) Operation {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return Operation{Token: Token{Seq: 1}, Side: side,
		Start: t0.Add(time.Duration(start) * time.Millisecond), End: t0.Add(time.Duration(end) * time.Millisecond)}
}

func TestChangesOfSide(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ops  []Operation
		want int
	}{
		"none":                        {nil, 0},
		"one side":                    {[]Operation{at("a", 0, 1), at("a", 2, 3)}, 0},
		"one switch":                  {[]Operation{at("a", 0, 1), at("a", 2, 9), at("b", 4, 5), at("b", 6, 7)}, 1},
		"overlapping tell nothing":    {[]Operation{at("a", 0, 9), at("b", 0, 9), at("a", 1, 9)}, 0},
		"back again":                  {[]Operation{at("a", 0, 1), at("b", 2, 3), at("a", 4, 5)}, 2},
		"back, hidden in a long one":  {[]Operation{at("a", 0, 1), at("b", 2, 3), at("b", 2, 100), at("a", 4, 50)}, 2},
		"there and back and there":    {[]Operation{at("a", 0, 1), at("b", 2, 3), at("a", 4, 5), at("b", 6, 7)}, 3},
		"failed ones are not counted": {[]Operation{at("a", 0, 1), at("b", 2, 3), {Outcome: Failed, Side: "a", Start: at("", 9, 9).Start}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, changes(tc.ops), tc.want)
		})
	}
}

// TestTurnsOfSeveralWorkloads: each by itself has seen one change of side, and together they tell that the
// closed side answered after the open one had.
func TestTurnsOfSeveralWorkloads(t *testing.T) {
	t.Parallel()
	early := []Operation{at("a", 0, 1), at("b", 2, 3)}
	late := []Operation{at("a", 4, 5), at("b", 6, 7)}
	require.Zero(t, Turns(early, 1).Count)
	require.Zero(t, Turns(late, 1).Count)
	turns := Turns(slices.Concat(early, late), 1)
	require.Equal(t, 2, turns.Count, "back and there again")
	require.Contains(t, turns.Examples[0], "of side b ended at 00:00:00.003000, client 0 transaction 1 of side a began at 00:00:00.004000")
	require.Zero(t, Turns(slices.Concat(early, late), 3).Count)
}

// The longest chain is what trying every chain finds.
func TestChangesOfSideAgainstEveryChain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 9).Draw(rt, "n")
		ops := make([]Operation, n)
		for i := range ops {
			s := rapid.IntRange(0, 20).Draw(rt, "start")
			ops[i] = at(rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "side"), s, s+rapid.IntRange(0, 8).Draw(rt, "took"))
		}
		got := changes(ops)
		for _, c := range got {
			require.True(rt, c.before.End.Before(c.after.Start))
			require.NotEqual(rt, c.before.Side, c.after.Side)
		}
		require.Len(rt, got, longest(ops, nil))
	})
}

func longest(ops []Operation, last *Operation) int {
	best := 0
	for i := range ops {
		o := &ops[i]
		if last != nil && !last.End.Before(o.Start) {
			continue
		}
		n := longest(ops, o)
		if last != nil && last.Side != o.Side {
			n++
		}
		best = max(best, n)
	}
	return best
}
