package schema

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/pg"
)

// Finding says that an entry could not be restored as it stands in the archive.
type Finding struct {
	ID       int    // dump id, 0 where there is no entry
	Kind     string // pg_dump's word: TABLE, COMMENT …
	Schema   string
	Name     string
	Message  string // the server's words
	SQLSTATE string // "" where no server spoke
	Harmless bool   // the run goes on without it
	Remedy   string // what to do, "" where nothing can be
}

// String tells what, where, why and what to do in one line.
func (f Finding) String() string {
	name := f.Name
	if f.Schema != "" {
		name = f.Schema + "." + f.Name
	}
	text := strings.ReplaceAll(fmt.Sprintf("%s %s: %s", f.Kind, name, f.Message), "\n", " ")
	if f.SQLSTATE != "" {
		text += " (SQLSTATE " + f.SQLSTATE + ")"
	}
	if f.Remedy != "" {
		text += "; " + f.Remedy
	}
	return text
}

// RestoreError is the failure that stopped a restore, or the refusal of a statement.
type RestoreError struct {
	Finding   Finding
	Err       error     // the driver's error
	Statement Statement // of Run and RunAfter; zero where an entry was restored
}

// Error names the object and the server's words.
func (e *RestoreError) Error() string {
	return "restore " + e.Finding.String()
}

// Unwrap returns the driver's error.
func (e *RestoreError) Unwrap() error { return e.Err }

const (
	codeDuplicateFunction = "42723" // a function is there already
	classAccessRule       = "42"    // syntax error or access rule violation
	classIntegrity        = "23"    // rows contradict a constraint
)

// harmless reports whether a run may go on although the target refused e with
// this SQLSTATE: what is asked for is there already, or changes nothing that
// an application could notice.
func harmless(e *Entry, code string) bool {
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
	case kindOwner:
		return denied || code == pg.CodeUndefinedObject || code == pg.CodeFeatureNotSupported
	case kindProperties:
		return denied || code == pg.CodeUndefinedObject || code == pg.CodeInvalidParameter
	}
	return false
}

func asPgError(err error) (*pgconn.PgError, bool) {
	var pe *pgconn.PgError
	ok := errors.As(err, &pe)
	return pe, ok
}
