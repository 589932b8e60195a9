package copy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cutAll cuts what the given spans leave open, with steps as they come.
func cutAll(t *rapid.T, blocks int64, done []span) (all []span) {
	for open := gaps(done); len(open) > 0; {
		var s span
		s, open = cutOff(open, rapid.Int64Range(0, 400).Draw(t, "step"), blocks)
		all = append(all, s)
	}
	return all
}

func TestCutCoversEveryBlockOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.Int64Range(0, 1000).Draw(t, "blocks")
		all := cutAll(t, blocks, nil)
		// Some have landed; the rest is cut again.
		var done []span
		for _, s := range all {
			if rapid.Bool().Draw(t, "landed") {
				done = append(done, s)
			}
		}
		var landed []landing
		for _, s := range append(done, cutAll(t, blocks, done)...) {
			landed = append(landed, landing{span: s})
		}
		if !complete(landed) {
			t.Fatalf("%v does not cover 0 to the end once", landed)
		}
	})
}

func TestCompleteFindsGapsAndOverlaps(t *testing.T) {
	t.Parallel()
	at := func(spans ...span) []landing {
		var l []landing
		for _, s := range spans {
			l = append(l, landing{span: s})
		}
		return l
	}
	require.True(t, complete(at(span{0, toEnd})))
	require.True(t, complete(at(span{5, toEnd}, span{0, 5})))
	require.False(t, complete(nil))
	require.False(t, complete(at(span{0, 5})))
	require.False(t, complete(at(span{0, 5}, span{6, toEnd})))
	require.False(t, complete(at(span{0, 5}, span{5, toEnd}, span{7, 9})))
}

// chunks hands out all chunks of one relation.
func chunks(q *queue, f facts, ranges bool) (all []span) {
	r := &relation{size: f.bytes}
	q.open = 1
	q.begun(&task{rel: r}, &pass{facts: f, ranges: ranges}, gaps(nil), 0)
	for len(q.cutting) > 0 {
		t, _ := q.pop(time.Now())
		all = append(all, t.span)
	}
	return all
}

func TestWithoutBlockRangesThereIsOneSpan(t *testing.T) {
	t.Parallel()
	f := facts{blocks: 100, bytes: 800 << 10}
	q := newQueue(newSizer(&Config{ChunkBytes: 8 << 10, Jobs: 1}), nil, nil)
	require.Len(t, chunks(q, f, false), 1)
	require.Len(t, chunks(q, f, true), 100)
}

func TestChunksFollowWhatWasMeasured(t *testing.T) {
	t.Parallel()
	big := facts{blocks: 1 << 20, bytes: 8 << 30}
	z := newSizer(&Config{Jobs: 4})
	first := chunks(newQueue(z, nil, nil), big, true)
	require.EqualValues(t, firstRate*10, (first[0].hi-first[0].lo)*8192, "ten seconds at the rate that is assumed")
	last := first[len(first)-2]
	require.Less(t, (last.hi-last.lo)*8192, int64(smallestChunk*2), "the last ones are small, so that the jobs end together")
	for range 20 {
		z.note(100<<20, time.Second)
	}
	fast := chunks(newQueue(z, nil, nil), big, true)
	require.InDelta(t, 1000<<20, (fast[0].hi-fast[0].lo)*8192, 1<<20)
	// A table that takes little longer than a chunk is one, where streams are fast.
	table := facts{blocks: 1 << 17, bytes: 1 << 30}
	z.begin(120<<20, time.Second)
	require.Len(t, chunks(newQueue(z, nil, nil), table, true), 1)
	z.begin(55<<20, time.Second)
	require.Greater(t, len(chunks(newQueue(z, nil, nil), table, true)), 1, "several streams do more of rows that take work")
	others := []*relation{{size: int64(z.jobs) << 30}}
	require.Len(t, chunks(newQueue(z, others, nil), table, true), 1, "the other streams have tables of their own")
	require.Len(t, chunks(newQueue(z, nil, nil), facts{blocks: 1 << 13, bytes: 64 << 20}, true), 1)
	z.begin(20<<20, time.Second)
	require.Greater(t, len(chunks(newQueue(z, others, nil), table, true)), 1, "it would take too long")
	z.begin(50<<20, time.Second)
	// What is left of one that others leave no hurry for is one.
	q := newQueue(z, []*relation{{size: 20 << 30}}, nil)
	require.EqualValues(t, 400<<20, q.sizer.chunk(400<<20, q.others, false))
	require.Less(t, q.sizer.chunk(400<<20, 0, false), int64(400<<20))
}

func TestPaceFollowsTheTarget(t *testing.T) {
	t.Parallel()
	p := pace{jobs: 8, limit: 8}
	for range 3 {
		p.judge(100)
	}
	require.Equal(t, 8, p.limit, "what goes well stays")
	p.judge(20)
	require.Equal(t, 4, p.limit, "a collapse halves")
	p.judge(90)
	p.judge(100)
	require.Equal(t, 6, p.limit, "then one after the other comes back")
	p.judge(80)
	require.Equal(t, 5, p.limit, "one too many is taken back")
	for range gateRest - 1 {
		p.judge(100)
	}
	require.Equal(t, 5, p.limit)
	require.True(t, p.refused())
	require.True(t, p.refused(), "others of the same moment are tried again too")
	require.Equal(t, 2, p.limit)
	p = pace{jobs: 1, limit: 1}
	require.False(t, p.refused(), "one job that is refused has no way out")
}
