package session

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

func TestSnifferSeesStatementsInAnyCut(t *testing.T) {
	t.Parallel()
	var b []byte
	b = wire.AppendQuery(b, "SET app.q = 1")
	b = wire.AppendParse(b, "set x.name = 1", "select set_config('app.p', $1, false)", []uint32{25})
	b = wire.AppendBind(b, "", "", nil, [][]byte{[]byte("set app.data = 1")}, nil)
	b = wire.AppendSync(b)
	b = wire.AppendQuery(b, "select '"+string(bytes.Repeat([]byte("x"), 2*maxSniff))+"'; set app.far = 1")
	b = wire.AppendQuery(b, "SET app.last = 1")
	for _, size := range []int{1, 2, 3, 7, 64, 8192} {
		var s Sniffer
		for part := range slices.Chunk(b, size) {
			s.Client(part)
		}
		got := s.Names.List()
		slices.Sort(got)
		require.Equal(t, []string{"app.last", "app.p", "app.q"}, got, "cut at %d", size)
		require.LessOrEqual(t, cap(s.part), keepSniff)
	}
}

func TestSnifferAllocatesNothing(t *testing.T) {
	b := wire.AppendQuery(nil, "select 1 from accounts where id = 5")
	b = wire.AppendSync(wire.AppendBind(b, "", "s1", nil, [][]byte{[]byte("5")}, nil))
	var s Sniffer
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Client(b) }))
}

func FuzzSniffer(f *testing.F) {
	f.Add(wire.AppendQuery(nil, "set a.b=1"), 3)
	f.Fuzz(func(_ *testing.T, b []byte, size int) {
		var s Sniffer
		for part := range slices.Chunk(b, max(1, size)) {
			s.Client(part)
		}
	})
}
