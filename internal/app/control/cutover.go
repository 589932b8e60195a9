package control

import (
	"encoding/json"
	"time"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/exit"
	"crossfade/internal/base/lists"
)

// Outcomes of a cutover.
const (
	OutcomeSwitched  = machine.OutcomeSwitched
	OutcomeAborted   = machine.OutcomeAborted
	OutcomeRehearsed = machine.OutcomeRehearsed
	OutcomePlanned   = machine.OutcomePlanned // of a dry run
)

// The report of a cutover, and what it consists of.
type (
	CutoverReport = cutover.Report
	Attempt       = cutover.AttemptReport
	Held          = cutover.HeldReport
	Event         = cutover.Moment
)

// CutoverOptions are what `crossfade cutover` asks for. Zero values leave the choice to the daemon.
type CutoverOptions struct {
	Back           bool  `json:"back,omitempty"`     // a fallback: from the target to the source
	DryRun         bool  `json:"dry_run,omitempty"`  // only say what would be done
	Rehearse       bool  `json:"rehearse,omitempty"` // everything up to the decision, then release
	AllowBypass    bool  `json:"allow_bypass,omitempty"`
	DrainTimeoutMS int64 `json:"drain_timeout_ms,omitempty"` // how long transactions may take to end
	Attempts       int   `json:"attempts,omitempty"`
	MaxPauseMS     int64 `json:"max_pause_ms,omitempty"` // bounds gate closed to deciding
	// RequireVerified refuses a cutover unless a comparison has found both sides equal, and is not too old.
	RequireVerified bool `json:"require_verified,omitempty"`
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
func (o CutoverOptions) wants() machine.Outcome {
	switch {
	case o.DryRun:
		return OutcomePlanned
	case o.Rehearse:
		return OutcomeRehearsed
	default:
		return OutcomeSwitched
	}
}

// CancelOptions are what withdraws a cutover.
type CancelOptions struct {
	// Interrupted says that the command that asked for it was, by a signal.
	Interrupted bool `json:"interrupted,omitempty"`
}

// ExitCode is the program's exit status for the report of a cutover that was asked for so.
func (o CutoverOptions) ExitCode(r CutoverReport) int {
	switch {
	case r.Incomplete:
		return exit.CodeNotComplete
	case r.Outcome == OutcomePlanned && r.Reason != "": // the cutover would fail
		return exit.CodeRefused
	case r.Outcome == o.wants():
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
