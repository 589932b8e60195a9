package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
)

func printed(r control.CutoverReport) string {
	var b strings.Builder
	printCutover(&b, r)
	return b.String()
}

func TestTimesThatWereNotMeasuredAreNotPrinted(t *testing.T) {
	t.Parallel()
	require.Equal(t, "aborted (epoch 3): the stream is 9 s behind\nattempt 1: the gate was not closed; the stream is 9 s behind\n0 client errors, 0 disconnected; 2 tables, 0 sequences\n",
		printed(control.CutoverReport{Outcome: control.OutcomeAborted, Epoch: 3, Reason: "the stream is 9 s behind", Tables: 2,
			Attempts: []control.Attempt{{Attempt: 1, Reason: "the stream is 9 s behind"}}}))
	planned := printed(control.CutoverReport{Outcome: control.OutcomePlanned, Epoch: 3, Reason: "it lags", Timeline: []control.Event{{Step: "fence", Detail: "at most 5s"}},
		Unmovable: []string{"session 1"}, Transactions: []string{"process 2"}, Bypass: []string{"pid 3"}, Blockers: []control.Blocker{{Code: "c", Detail: "d", Remedy: "r"}}})
	require.NotContains(t, planned, " ms")
	for _, line := range []string{"fence                  at most 5s\n", "session that would not move: session 1\n", "open transaction: process 2\n", "session that bypasses the proxy: pid 3\n",
		"blocker c: d; r\n", "planned (epoch 3), and it would be refused: it lags\n"} {
		require.Contains(t, planned, line)
	}
}

func TestEveryAttemptIsPrinted(t *testing.T) {
	t.Parallel()
	at, pause, short := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.Local), 2003.5, 110.25
	out := printed(control.CutoverReport{Outcome: control.OutcomeSwitched, Epoch: 3, Attempts: []control.Attempt{
		{Attempt: 1, ClosedAt: &at, PauseMS: &pause, Held: &control.Held{Sessions: 4, P50MS: 1000, P99MS: 2000, MaxMS: 2001}, Reason: "a transaction stayed open"},
		{Attempt: 2, ClosedAt: &at, PauseMS: &short},
	}})
	require.Contains(t, out, "attempt 1: gate closed at 03:04:05.006, pause 2003.5 ms; 4 sessions held, p50 1000.0 ms, p99 2000.0 ms, max 2001.0 ms; a transaction stayed open\n")
	require.Contains(t, out, "attempt 2: gate closed at 03:04:05.006, pause 110.2 ms; no session was held\n")
}
