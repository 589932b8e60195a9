package workload

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A client that never got an answer has no latency; 0.00 ms would be the best of all.
func TestAReportPrintsNoTimesThatWereNotMeasured(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := Report{Clients: []ClientReport{{Client: 1, Driver: "pgx"}, {Client: 2, Driver: "pgx", Latency: QuantilesOf([]time.Duration{time.Millisecond}), LongestGap: time.Second}}}
	require.NoError(t, r.Print(&out))
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	require.Equal(t, "1 pgx 0 0 0 0 0 0 - - -", lines[1])
	require.Equal(t, "2 pgx 0 0 0 0 0 0 1.00 ms 1.00 ms 1000.00 ms", lines[2])
	require.Equal(t, "transactions: not measured", lines[4])
}
