package control_test

import (
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

// The names of these fields are what scripts rely on.
func TestJSONContract(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		`{"phase":"","active":"","epoch":0,
		  "copy":{"tables_done":0,"tables_total":0,"bytes_done":0,"bytes_total":0,"rows_done":0,"max_rate_bytes":0,"held":false,"tables_repaired":0,"tables_restarted":0,"keys_repaired":0},
		  "replication":{"state":"","lag_bytes":0,"lag_ms":0,"applied_lsn":"","retained_wal_bytes":0,"wal_budget_bytes":0,"wal_status":"","safe_wal_bytes":0,"xmin_age":0},
		  "proxy":{"sessions":0,"in_transaction":0,"parked":0},
		  "ready":false,"blockers":[],"warnings":[],
		  "fallback":{"state":"","lag_ms":0},
		  "verify":{"state":"","tables_done":0,"tables_total":0,"differences":0}}`: control.Status{},
		`{"id":1,"client":"","user":"","database":"","application_name":"a","started":"0001-01-01T00:00:00Z","state":"idle",
		  "since":"0001-01-01T00:00:00Z","side":"source","verdict":"hold",
		  "reasons":[{"verdict":"hold","code":"temp_objects","detail":"d"}]}`: control.Session{ID: 1, ApplicationName: "a", State: "idle",
			Side: "source", Verdict: "hold", Reasons: []control.SessionReason{{Verdict: "hold", Code: "temp_objects", Detail: "d"}}},
		`{"code":"c","detail":"d","remedy":"r"}`: control.Blocker{Code: "c", Detail: "d", Remedy: "r"},
		`{"outcome":"","reason":"","epoch":0,"pause_ms":0,
		  "held":{"sessions":0,"p50_ms":0,"p99_ms":0,"max_ms":0},
		  "client_errors":0,"disconnected":0,"tables":0,"sequences":0,"timeline":[]}`: control.CutoverReport{},
		`{"step":"fenced","at_ms":58.25,"detail":"d"}`: control.Event{Step: "fenced", AtMS: 58.25, Detail: "d"},
		`{"step":"fenced","at_ms":58.25,"detail":"d","at":"2026-01-02T03:04:05.006Z","attempt":2}`: control.Event{Step: "fenced", AtMS: 58.25, Detail: "d",
			At: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), Attempt: 2},
		`{"code":"refused","message":"m","remedy":"r","blockers":[{"code":"c","detail":"d","remedy":"r"}]}`: &control.Error{Code: "refused", Message: "m", Remedy: "r",
			Blockers: []control.Blocker{{Code: "c", Detail: "d", Remedy: "r"}}},
		`{"dropped":[]}`:             control.FinishReport{},
		`{"code":"c","message":"m"}`: &control.Error{Code: "c", Message: "m"},
	} {
		got, err := json.Marshal(v)
		require.NoError(t, err)
		require.JSONEq(t, want, string(got))
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	switched := control.CutoverReport{Outcome: control.OutcomeSwitched}
	require.Equal(t, 0, control.CutoverOptions{}.ExitCode(switched))
	require.Equal(t, 1, control.CutoverOptions{Rehearse: true}.ExitCode(switched), "not what was asked for")
	require.Equal(t, 0, control.CutoverOptions{Rehearse: true}.ExitCode(control.CutoverReport{Outcome: control.OutcomeRehearsed}))
	require.Equal(t, 0, control.CutoverOptions{DryRun: true}.ExitCode(control.CutoverReport{Outcome: control.OutcomePlanned}))
	require.Equal(t, 1, control.CutoverOptions{DryRun: true}.ExitCode(control.CutoverReport{Outcome: control.OutcomePlanned, Reason: "it would be refused"}))
	require.Equal(t, 1, control.CutoverOptions{}.ExitCode(control.CutoverReport{Outcome: control.OutcomeAborted}))
	require.Equal(t, 3, control.CutoverOptions{}.ExitCode(control.CutoverReport{Outcome: control.OutcomeAborted, Incomplete: true}))

	require.Equal(t, 0, control.ExitCode(nil))
	require.Equal(t, 3, control.ExitCode(errors.New("anything")))
	require.Equal(t, 3, control.ExitCode(io.EOF))
	for code, want := range map[string]int{control.CodeUsage: 2, control.CodeBusy: 1, control.CodeRefused: 1,
		control.CodeUnreachable: 1, control.CodeIncomplete: 3, control.CodeLost: 3, control.CodeInternal: 3} {
		require.Equal(t, want, control.ExitCode(&control.Error{Code: code}), code)
	}
}
