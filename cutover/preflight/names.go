package preflight

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/database"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/loginrole"
)

// What the program says and reads of a preflight, by the names of the packages that hold it.
type (
	// Report is answer.Report.
	Report = answer.Report
	// Finding is answer.Finding.
	Finding = answer.Finding
	// Options are inquiry.Options.
	Options = inquiry.Options
	// Scope is inquiry.Scope.
	Scope = inquiry.Scope
	// Taken is inquiry.Taken.
	Taken = inquiry.Taken
	// Logins are inquiry.Logins.
	Logins = inquiry.Logins
)

// The modes of a preflight, the severities of a finding, and the exit statuses of a report.
const (
	Copy = inquiry.Copy
	Run  = inquiry.Run

	Blocker = answer.Blocker
	Warning = answer.Warning
	Info    = answer.Info

	ExitReady      = answer.ExitReady
	ExitIncomplete = answer.ExitIncomplete
)

// CompareLogins is loginrole.Compare, for a run that asks again while it follows.
func CompareLogins(ctx context.Context, source, target *pgx.Conn, l Logins, platform func(string) bool) ([]Finding, error) {
	return loginrole.Compare(ctx, source, target, l, platform)
}

// Objects is database.Objects.
func Objects(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return database.Objects(ctx, conn)
}
