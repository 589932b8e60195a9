package control

import (
	"encoding/json"
	"time"

	"crossfade/internal/app/exit"
	"crossfade/internal/base/lists"
)

// Outcomes of a cutover.
const (
	OutcomeSwitched  = "switched"
	OutcomeAborted   = "aborted"
	OutcomeRehearsed = "rehearsed"
	OutcomePlanned   = "planned" // of a dry run
)

// CutoverOptions are what `crossfade cutover` asks for. Zero values leave the choice to the daemon.
type CutoverOptions struct {
	DryRun         bool  `json:"dry_run,omitempty"`  // only say what would be done
	Rehearse       bool  `json:"rehearse,omitempty"` // everything up to the decision, then release
	AllowBypass    bool  `json:"allow_bypass,omitempty"`
	DrainTimeoutMS int64 `json:"drain_timeout_ms,omitempty"` // how long transactions may take to end
	Attempts       int   `json:"attempts,omitempty"`
	MaxPauseMS     int64 `json:"max_pause_ms,omitempty"` // bounds gate closed to deciding
	// Unmovable is what becomes of sessions that cannot be moved: wait, abort or
	// disconnect; empty is abort.
	Unmovable string `json:"unmovable,omitempty"`
}

// DrainTimeout is DrainTimeoutMS as a duration.
func (o CutoverOptions) DrainTimeout() time.Duration {
	return time.Duration(o.DrainTimeoutMS) * time.Millisecond
}

// MaxPause is MaxPauseMS as a duration.
func (o CutoverOptions) MaxPause() time.Duration {
	return time.Duration(o.MaxPauseMS) * time.Millisecond
}

// Validate returns an *Error of code usage for options that contradict.
func (o CutoverOptions) Validate() error {
	switch {
	case o.DryRun && o.Rehearse:
		return &Error{Code: CodeUsage, Message: "a dry run cannot be a rehearsal", Remedy: "give --dry-run or --rehearse, not both"}
	case o.DrainTimeoutMS < 0:
		return &Error{Code: CodeUsage, Message: "the drain timeout is negative", Remedy: "give --drain-timeout a duration such as 2s"}
	case o.MaxPauseMS < 0:
		return &Error{Code: CodeUsage, Message: "the longest pause is negative", Remedy: "give --max-pause a duration such as 10s"}
	case o.Unmovable != "" && o.Unmovable != "wait" && o.Unmovable != "abort" && o.Unmovable != "disconnect":
		return &Error{Code: CodeUsage, Message: "the policy for sessions that cannot be moved is not known", Remedy: "give --unmovable wait, abort or disconnect"}
	case o.Attempts < 0:
		return &Error{Code: CodeUsage, Message: "the number of attempts is negative", Remedy: "give --attempts a number from 1 up"}
	}
	return nil
}

// wants is the outcome that the options ask for.
func (o CutoverOptions) wants() string {
	switch {
	case o.DryRun:
		return OutcomePlanned
	case o.Rehearse:
		return OutcomeRehearsed
	default:
		return OutcomeSwitched
	}
}

// CutoverReport is the answer to `crossfade cutover --json`.
type CutoverReport struct {
	Outcome string  `json:"outcome"` // switched, aborted, rehearsed, planned
	Reason  string  `json:"reason"`  // why it was aborted, or why the cutover of a dry run would be; else empty
	Epoch   int64   `json:"epoch"`
	PauseMS float64 `json:"pause_ms"` // gate closed to gate open, in the last attempt that closed it; 0 where none did
	Held    Held    `json:"held"`     // of the same attempt
	// ClientErrors counts the clients that were ended in an attempt, no matter what ended them: the
	// move, a server that went away, the hold limit.
	ClientErrors int `json:"client_errors"`
	// Ended names those of the last attempt, each with its reason.
	Ended []string `json:"ended,omitempty"`
	// Disconnected counts the sessions that could not be moved and were closed, as
	// --unmovable=disconnect asks; they are no client errors.
	Disconnected int `json:"disconnected"`
	// Unmovable names them, in a rehearsal those that would be closed, and in a dry run those that
	// could not be moved now.
	Unmovable []string `json:"unmovable,omitempty"`
	Tables    int      `json:"tables"`
	Sequences int      `json:"sequences"`
	Timeline  []Event  `json:"timeline"` // never null; of a dry run: the steps to come
	// Attempts are all of them, those too that failed.
	Attempts []Attempt `json:"attempts,omitempty"`
	// Incomplete says that something was changed and not undone, and that the
	// daemon cannot end it by itself.
	Incomplete bool `json:"incomplete,omitempty"`
	// Of a dry run: Blockers would refuse the cutover before it is begun; Transactions are the
	// longest open ones; Bypass are the sessions that write past the proxy; the estimates are how
	// long the gate would be closed once the last transaction of a client has ended, with idle
	// servers and with busy ones, 0 where that could not be estimated.
	Blockers        []Blocker `json:"blockers,omitempty"`
	Transactions    []string  `json:"transactions,omitempty"`
	Bypass          []string  `json:"bypass,omitempty"`
	EstimateLeastMS float64   `json:"estimate_least_ms,omitempty"`
	EstimateMostMS  float64   `json:"estimate_most_ms,omitempty"`
	// Notes are what the operator should know, such as that there is no way back.
	Notes []string `json:"notes,omitempty"`
}

// Attempt is one attempt of a cutover. What is null was not measured: the gate was not
// closed in it, or no session was held.
type Attempt struct {
	Attempt  int        `json:"attempt"`
	ClosedAt *time.Time `json:"closed_at,omitempty"` // when the gate was asked to close
	PauseMS  *float64   `json:"pause_ms,omitempty"`  // gate closed to gate open
	Held     *Held      `json:"held,omitempty"`
	Reason   string     `json:"reason,omitempty"` // why it failed
}

// Held says how long sessions were held: from the first byte held to the first byte
// forwarded again, to the new server where there is one.
type Held struct {
	Sessions int     `json:"sessions"`
	P50MS    float64 `json:"p50_ms"`
	P99MS    float64 `json:"p99_ms"`
	MaxMS    float64 `json:"max_ms"`
}

// Event is one step of a cutover.
type Event struct {
	Step   string  `json:"step"`
	AtMS   float64 `json:"at_ms"` // since the gate was asked to close; before that negative
	Detail string  `json:"detail"`
	// At is the same by the wall clock, and Attempt the attempt that it belongs to, from 1.
	// The steps to come, of a dry run, have neither.
	At      time.Time `json:"at,omitzero"`
	Attempt int       `json:"attempt,omitempty"`
}

// CancelOptions are what withdraws a cutover.
type CancelOptions struct {
	// Interrupted says that the command that asked for it was, by a signal.
	Interrupted bool `json:"interrupted,omitempty"`
}

// MarshalJSON writes an empty timeline as [].
func (r CutoverReport) MarshalJSON() ([]byte, error) {
	type plain CutoverReport
	r.Timeline = lists.NotNil(r.Timeline)
	return json.Marshal(plain(r))
}

// ExitCode is the program's exit status for a report, given what was asked for.
func (r CutoverReport) ExitCode(asked CutoverOptions) int {
	switch {
	case r.Incomplete:
		return exit.CodeNotComplete
	case r.Outcome == OutcomePlanned && r.Reason != "": // the cutover would fail
		return exit.CodeRefused
	case r.Outcome == asked.wants():
		return exit.CodeDone
	default:
		return exit.CodeRefused
	}
}

// FinishOptions are what `crossfade finish` asks for.
type FinishOptions struct {
	// Force finishes though a check would refuse it.
	Force bool `json:"force,omitempty"`
	// Accept names tables that are not proved equal and that do not refuse it.
	Accept []string `json:"accept,omitempty"`
	// OpenSource takes the source's fence away, so that it can be written again.
	OpenSource bool `json:"open_source,omitempty"`
	// Plan only says what would be done, or refuses it.
	Plan bool `json:"plan,omitempty"`
}

// FinishReport is what `crossfade finish` did, or with Plan would do.
type FinishReport struct {
	Dropped []string `json:"dropped"`        // each object of ours, side first: "source: slot crossfade_…"
	Kept    []string `json:"kept,omitempty"` // what of ours stays, and why
	Notes   []string `json:"notes,omitempty"`
}

// MarshalJSON writes an empty list as [].
func (r FinishReport) MarshalJSON() ([]byte, error) {
	type plain FinishReport
	r.Dropped = lists.NotNil(r.Dropped)
	return json.Marshal(plain(r))
}
