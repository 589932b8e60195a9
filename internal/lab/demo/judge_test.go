package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/workload"
)

func TestNoTimesArePrintedWhereNoSessionWasHeld(t *testing.T) {
	t.Parallel()
	text := func(h control.Held, felt ...time.Duration) string {
		var out strings.Builder
		printHeld(&out, h, workload.QuantilesOf(felt))
		return strings.Join(strings.Fields(out.String()), " ")
	}
	require.Equal(t, "held sessions 0 longest wait of each client 0 not measured", text(control.Held{}))
	require.Equal(t, "held sessions 3 p50 1.5 ms, p99 2.0 ms, max 2.0 ms longest wait of each client 1 p50 4ms, p99 4ms, max 4ms",
		text(control.Held{Sessions: 3, P50MS: 1.5, P99MS: 2, MaxMS: 2}, 4*time.Millisecond))
}
