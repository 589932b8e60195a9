package answer

import "slices"

// Exit statuses of a report, as crossfade check gives them.
const (
	ExitReady      = 0
	ExitBlocked    = 1
	ExitIncomplete = 3
)

// Incomplete is a check whose answer is not known.
type Incomplete struct {
	Check string
	Err   error
}

// Report is the outcome of a preflight.
type Report struct {
	Findings   []Finding
	Incomplete []Incomplete
}

// Of returns the findings of one severity, in the order of the checks.
func (r Report) Of(s Severity) []Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return f.Severity != s })
}

// Ready tells whether everything was asked and nothing blocks.
func (r Report) Ready() bool { return r.ExitCode() == ExitReady }

// ExitCode returns the exit status of the command. What could not be asked
// weighs more than what blocks: the list of blockers is not whole then.
func (r Report) ExitCode() int {
	switch {
	case len(r.Incomplete) > 0:
		return ExitIncomplete
	case len(r.Of(Blocker)) > 0:
		return ExitBlocked
	default:
		return ExitReady
	}
}
