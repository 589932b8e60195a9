package verify

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// frozenRound compares the fixture's tables from plain pairs.
func (f *fixture) frozenRound(pair func(n int) *Frozen, change ...func(*Round)) map[string]Result {
	f.t.Helper()
	told, n := map[string]Result{}, 0
	r := &Round{Config: f.cfg, Pair: func(context.Context) (*Frozen, error) {
		n++
		return pair(n), nil
	}}
	r.Config.Settled = func(result Result) {
		require.NotContains(f.t, told, result.Name.Display(), "each table is told once")
		told[result.Name.Display()] = result
	}
	for _, c := range change {
		c(r)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), pgtest.Timeout)
	defer cancel()
	require.NoError(f.t, r.Run(ctx))
	require.Len(f.t, told, len(f.cfg.Tables))
	return told
}

// What differs is looked at again from another pair before it is told.
func TestADifferenceIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.target, "UPDATE public.keyed SET v = 'passing' WHERE id = 7; UPDATE public.keyed SET v = 'stays' WHERE id = 9; INSERT INTO public.empty VALUES (3)")
	pairs := 0
	told := f.frozenRound(func(n int) *Frozen {
		if pairs = n; n == 2 {
			pgtest.Exec(t, f.target, "UPDATE public.keyed SET v = md5('7') WHERE id = 7; DELETE FROM public.empty")
		}
		return f.freeze()
	})
	require.Equal(t, 2, pairs)
	require.Equal(t, []Difference{{"(9,p)", "changed"}}, told["public.keyed"].Keys)
	require.Equal(t, Equal, told["public.empty"].Verdict)

	once := f.frozenRound(func(int) *Frozen { return f.freeze() }, func(r *Round) { r.Looks = 1 })
	require.Equal(t, Different, once["public.keyed"].Verdict)
}

// A pair is not used for one more table when it is old, and is taken again when it is lost.
func TestNoPairBecomesOld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pairs := 0
	f.frozenRound(func(n int) *Frozen {
		pairs = n
		return f.freeze()
	}, func(r *Round) {
		r.MaxAge = time.Nanosecond
		r.Sizes = map[pg.Name]int64{}
		for _, table := range f.cfg.Tables {
			r.Sizes[table.Name] = groupBytes
		}
	})
	require.Equal(t, len(f.cfg.Tables), pairs, "each table has one of its own")

	told := f.frozenRound(func(n int) *Frozen {
		pair := f.freeze()
		if n < 3 {
			pair.To.Close()
		}
		return pair
	})
	for name, result := range told {
		require.Equal(t, Equal, result.Verdict, name)
	}
}

// All keys that differ are named, up to the bound, wherever in the table they are.
func TestEveryKeyIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.Sample = 100
	pgtest.Exec(t, f.target, "UPDATE public.keyed SET v = v || '!' WHERE id % 250 = 0")
	got := f.run(f.freeze()).Tables[0]
	require.Len(t, got.Keys, 80)
	require.False(t, got.More)
	f.cfg.Sample = 79
	got = f.run(f.freeze()).Tables[0]
	require.Len(t, got.Keys, 79)
	require.True(t, got.More)
}

// A session that rests takes no more than its share of the time.
func TestAReaderRests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.Jobs = 1
	begun := time.Now()
	f.run(f.freeze())
	quick := time.Since(begun)
	f.cfg.Rest = 20
	begun = time.Now()
	require.True(t, f.run(f.freeze()).OK())
	require.Greater(t, time.Since(begun), 3*quick)
}
