package answer

import (
	"regexp"
	"strings"

	"crossfade/internal/base/lists"
)

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
	return lists.Filter(r.Findings, func(f Finding) bool { return f.Severity == s })
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

// Severity says what a finding does to a migration.
type Severity string

// The severities.
const (
	Blocker Severity = "blocker" // refuses the migration
	Warning Severity = "warning" // a loss or a risk that the operator takes
	Info    Severity = "info"    // what to expect
)

// Finding is one thing that was seen.
type Finding struct {
	Code     string   `json:"code"`             // stable, in lower case with underscores
	Severity Severity `json:"severity"`         //
	Object   string   `json:"object,omitempty"` // schema.name, a role, a setting; may be empty
	Detail   string   `json:"detail"`           // what is wrong, in one line
	Remedy   string   `json:"remedy,omitempty"` // what to do, in one line
	// SQL are the statements of the remedy, one a line, without a semicolon at their end, and On
	// the side that they are typed on. Empty where no statement does it, or where there is a choice
	// that changes what is moved.
	SQL string `json:"sql,omitempty"`
	On  Side   `json:"on,omitempty"`
}

// Side is one of the two databases.
type Side string

// The sides.
const (
	Source Side = "source"
	Target Side = "target"
)

// namesSide finds in a remedy on which side it is typed.
var namesSide = regexp.MustCompile(`\b(on|in) the (source|target)('s database)?\b`)

// Do returns what to do, in one line that says on which side a statement is typed; "" for nothing.
func (f Finding) Do() string {
	if f.Remedy == "" || f.On == "" || namesSide.MatchString(f.Remedy) {
		return f.Remedy
	}
	return "on the " + string(f.On) + ": " + f.Remedy
}

// String returns the finding as one line: its code, its object, what is wrong, and what to do.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.Code)
	if f.Object != "" {
		b.WriteString(" " + f.Object)
	}
	b.WriteString(": " + f.Detail)
	if do := f.Do(); do != "" {
		b.WriteString("; " + do)
	}
	return b.String()
}
