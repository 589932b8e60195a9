package wire_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

type quiet struct{}

func (quiet) Parse([]byte)                {}
func (quiet) Simple()                     {}
func (quiet) ParameterStatus(_, _ []byte) {}
func (quiet) CommandComplete([]byte)      {}
func (quiet) Refused()                    {}
func many(n int, words []byte) (out []byte) {
	for range n {
		out = append(out, words...)
	}
	return out
}

// TestTrackerAllocates nothing once it is warm: the rows, the units and the statements of a busy
// session are free.
func TestTrackerAllocates(t *testing.T) {
	tr := wire.Tracker{Observer: quiet{}}
	ask, answer := client("Pu", "B", "D", "E", "S", "Q"), server("1", "2", "T", "D", "D", "S", "C", "Z", "T", "D", "C", "Z")
	round := func() {
		_, _ = tr.Client(ask[:7])
		_ = tr.ClientLimit(ask[7:])
		_, _ = tr.Client(ask[7:])
		_, _ = tr.Server(answer[:9])
		_, _ = tr.Server(answer[9:])
		if !tr.Boundary() {
			t.Fatal(tr.Reason())
		}
	}
	round()
	require.Zero(t, testing.AllocsPerRun(1000, round))
}

// BenchmarkTracker/rows: small rows in runs of 16 KiB. /units: an extended query and its replies.
func BenchmarkTracker(b *testing.B) {
	b.Run("rows", func(b *testing.B) {
		var tr wire.Tracker
		_, _ = tr.Client(client("Q"))
		rows := many(16<<10/12, server("D"))
		b.SetBytes(int64(len(rows)))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = tr.Server(rows)
		}
	})
	b.Run("units", func(b *testing.B) {
		tr := wire.Tracker{Observer: quiet{}}
		ask, answer := client("Pu", "B", "D", "E", "S"), server("1", "2", "T", "D", "C", "Z")
		b.SetBytes(int64(len(ask) + len(answer)))
		b.ReportAllocs()
		for b.Loop() {
			_, _ = tr.Client(ask)
			_, _ = tr.Server(answer)
		}
	})
}
