package preflight

import "crossfade/cutover/preflight/answer"

// What the program says and reads of a preflight, by the names of the rooms that hold it.
type (
	// Report is answer.Report.
	Report = answer.Report
	// Finding is answer.Finding.
	Finding = answer.Finding
)

// The severities of a finding, and the exit statuses of a report.
const (
	Blocker = answer.Blocker
	Warning = answer.Warning
	Info    = answer.Info

	ExitReady      = answer.ExitReady
	ExitIncomplete = answer.ExitIncomplete
)
