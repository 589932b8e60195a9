package ports

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
)

// How long a comparison still takes is told where its pace so far tells it.
func TestTheRestOfAComparisonIsToldByItsPace(t *testing.T) {
	t.Parallel()
	name := func(s string) pg.Name { return pg.Name{Schema: "public", Name: s} }
	v := &Verification{begun: time.Now().Add(-10 * time.Second), rest: []pg.Name{name("a"), name("b"), name("c")},
		found: map[pg.Name]journal.Proof{name("a"): {Table: name("a"), Verdict: "equal"}}}
	sizes := map[pg.Name]int64{name("a"): 100, name("b"): 150, name("c"): 150}
	left, known := v.Left(sizes)
	require.True(t, known)
	require.Equal(t, 30*time.Second, left)
	v.begun = time.Now()
	_, known = v.Left(sizes)
	require.False(t, known, "nobody knows its pace yet")
	v.begun, v.found = time.Now().Add(-time.Minute), map[pg.Name]journal.Proof{}
	_, known = v.Left(sizes)
	require.False(t, known, "no table is done")
}
