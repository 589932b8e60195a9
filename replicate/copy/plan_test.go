package copy

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCutCoversEveryBlockOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := facts{
			blocks: rapid.Int64Range(0, 1000).Draw(t, "blocks"),
			bytes:  rapid.Int64Range(0, 1<<24).Draw(t, "bytes"),
			heap:   rapid.Bool().Draw(t, "heap"),
		}
		all := cut(f, rapid.Int64Range(1, 1<<22).Draw(t, "chunk"), true, nil)
		// Some have landed; the rest is cut again with another size.
		var done []span
		for _, s := range all {
			if rapid.Bool().Draw(t, "landed") {
				done = append(done, s)
			}
		}
		var landed []landing
		for _, s := range append(done, cut(f, rapid.Int64Range(1, 1<<22).Draw(t, "chunk 2"), true, done)...) {
			landed = append(landed, landing{span: s})
		}
		open := gaps(done)
		if len(open) > 0 && !complete(landed) {
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

func TestWithoutBlockRangesThereIsOneSpan(t *testing.T) {
	t.Parallel()
	f := facts{blocks: 100, bytes: 800 << 10, heap: true}
	require.Len(t, cut(f, 8<<10, false, nil), 1)
	require.Len(t, cut(f, 8<<10, true, nil), 100)
	f.heap = false
	require.Len(t, cut(f, 8<<10, true, nil), 1)
}
