package preflight

import "strings"

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
}

// String returns the finding as one line: its code, what it is about, what is
// wrong, and what to do.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.Code)
	if f.Object != "" {
		b.WriteString(" " + f.Object)
	}
	b.WriteString(": " + f.Detail)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}
