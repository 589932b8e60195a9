package restore

import (
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// Error is the failure that stopped a restore, or the refusal of a statement.
type Error struct {
	Finding   finding.Finding
	Err       error          // the driver's error
	Statement plan.Statement // of Run and RunAfter; zero where an entry was restored
}

// Error names the object and contains the server's message.
func (e *Error) Error() string {
	return "restore " + e.Finding.String()
}

// Unwrap returns the driver's error.
func (e *Error) Unwrap() error { return e.Err }

const (
	codeDuplicateFunction = "42723" // a function is there already
	classAccessRule       = "42"    // syntax error or access rule violation
	classIntegrity        = "23"    // rows contradict a constraint
)

// harmless reports whether a run may go on although the target refused e with this SQLSTATE: what
// is asked for is there already, or changes nothing that an application could notice.
func harmless(e *archive.Entry, code string) bool {
	denied := code == pg.CodeInsufficientPrivilege
	switch e.Kind {
	case "SCHEMA":
		return code == pg.CodeDuplicateSchema
	case "EXTENSION":
		return code == pg.CodeDuplicateObject
	case "PROCEDURAL LANGUAGE":
		return code == pg.CodeDuplicateObject || code == codeDuplicateFunction
	case "COMMENT":
		return strings.HasPrefix(code, classAccessRule) // it is of an object that is not ours, or was left out
	case "SECURITY LABEL":
		return denied || code == pg.CodeInvalidParameter || code == pg.CodeFeatureNotSupported
	case "DEFAULT ACL":
		return denied || code == pg.CodeUndefinedObject
	case "ACL":
		// Privileges on what the platform owns, such as members of an extension.
		return denied
	case "EVENT TRIGGER":
		return denied
	case plan.KindOwner:
		return denied || code == pg.CodeUndefinedObject || code == pg.CodeFeatureNotSupported
	case plan.KindProperties:
		return denied || code == pg.CodeUndefinedObject || code == pg.CodeInvalidParameter
	}
	return false
}
