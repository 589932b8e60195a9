package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

func printed(r control.CutoverReport) string {
	var b strings.Builder
	printCutover(&b, r, &reasons{})
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

// A session, or a blocker, that the reason names is in no other list.
func TestWhatAPlanIsRefusedForIsNotListedOnceMore(t *testing.T) {
	t.Parallel()
	out := printed(control.CutoverReport{Outcome: control.OutcomePlanned, Reason: "2 sessions cannot be moved: session 1 has a cursor; it lags (wait)", Unmovable: []string{"session 1 has a cursor", "session 2 has another"},
		Blockers: []control.Blocker{{Code: "lag", Detail: "it lags", Remedy: "wait"}, {Code: "other", Detail: "it is away", Remedy: "wait"}}})
	require.Equal(t, 1, strings.Count(out, "session 1 has a cursor"), out)
	require.Equal(t, 1, strings.Count(out, "it lags"), out)
	require.Contains(t, out, "session that would not move: session 2 has another\n")
	require.Contains(t, out, "blocker other: it is away; wait\n")
}

func TestEveryAttemptIsPrinted(t *testing.T) {
	t.Parallel()
	at, pause, short := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.Local), 2003.5, 110.25
	out := printed(control.CutoverReport{Outcome: control.OutcomeSwitched, Epoch: 3, Attempts: []control.Attempt{
		{Attempt: 1, ClosedAt: at, PauseMS: pause, Held: control.Held{Sessions: 4, P50MS: 1000, P99MS: 2000, MaxMS: 2001}, Reason: "a transaction stayed open"},
		{Attempt: 2, ClosedAt: at, PauseMS: short},
	}})
	require.Contains(t, out, "attempt 1: gate closed at 03:04:05.006, pause 2003.5 ms; 4 clients waited, p50 1000.0 ms, p99 2000.0 ms, max 2001.0 ms; a transaction stayed open\n")
	require.Contains(t, out, "attempt 2: gate closed at 03:04:05.006, pause 110.2 ms; no client had to wait\n")
}

// A drain that does not end is the cause of all that follows from it in an attempt, and of the
// outcome.
func TestAReasonIsToldOnceInTheSteps(t *testing.T) {
	t.Parallel()
	const why = "transactions did not end in time: process 7 of app (application \"shop\"), open for 9s, last statement: INSERT INTO a VALUES (?)"
	var steps strings.Builder
	said := &reasons{}
	show := shown(&steps, said)
	for _, e := range [][2]string{{"close_gate", "gate closed"}, {"pause", "drain timeout: " + why}, {"abort", "pause: " + why}, {"backoff", "attempt 1 of 2: pause: " + why}, {"pause", "another one is open for a long while"}} {
		show(control.Event{Attempt: 1, Step: e[0], Detail: e[1]})
	}
	require.Equal(t, 1, strings.Count(steps.String(), why), steps.String())
	for _, words := range []string{"drain timeout: " + why, "pause: as said", "attempt 1 of 2: pause: as said", "another one is open for a long while"} {
		require.Contains(t, steps.String(), words+"\n")
	}
	// The outcome follows the steps on the same screen.
	var outcome strings.Builder
	printCutover(&outcome, control.CutoverReport{Outcome: control.OutcomeAborted, Reason: "pause: " + why + "; tried 2 times", Attempts: []control.Attempt{{Attempt: 1, Reason: "pause: " + why}}}, said)
	require.Contains(t, outcome.String(), "aborted (epoch 0): pause: as said; tried 2 times\nattempt 1: the gate was not closed; as said\n")
	out := printed(control.CutoverReport{Outcome: control.OutcomeAborted, Reason: "pause: " + why, Attempts: []control.Attempt{{Attempt: 1, Reason: "pause: another one, which was open too"}, {Attempt: 2, Reason: "pause: " + why}}})
	require.Equal(t, 1, strings.Count(out, "another one"))
	require.Equal(t, 1, strings.Count(printed(control.CutoverReport{Outcome: control.OutcomeAborted, Reason: "pause: " + why, Attempts: []control.Attempt{{Attempt: 1, Reason: "pause: " + why}, {Attempt: 2, Reason: "pause: " + why}}}), why))
}
