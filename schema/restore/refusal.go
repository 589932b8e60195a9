package restore

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// refusals are the entries that a restore with GoOn could not make: those that the target has
// refused, and those that need them. It is safe for concurrent use.
type refusals struct {
	mu   sync.Mutex
	ids  map[int]*archive.Entry // what was refused, by whatever lacks for it
	list []finding.Finding
}

// missing marks what an earlier part should have made and has not. plan's later parts are
// yet to come.
func (x *refusals) missing(p *plan.Plan, part plan.Part, done map[int]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, earlier := range plan.Parts[:plan.Order(part)] {
		for _, e := range p.Entries(earlier) {
			if !done[e.ID] {
				x.ids[e.ID] = e
			}
		}
	}
}

// lacks reports what an entry needs that could not be made. The entry is then noted as
// one that cannot be made either.
func (x *refusals) lacks(e *archive.Entry) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range e.Dependencies {
		cause := x.ids[id]
		if cause == nil {
			continue
		}
		x.ids[e.ID] = cause
		if !slices.Contains(attributes, e.Kind) {
			x.list = append(x.list, finding.Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag,
				Message: "not tried, since it needs " + strings.ToLower(cause.Kind) + " " + cause.Tag + ", which could not be made"})
		}
		return true
	}
	return false
}

// attributes are kinds that only say something of another object: that they lack it is no news.
var attributes = []string{"ACL", "COMMENT", "SECURITY LABEL", plan.KindOwner, "SEQUENCE OWNED BY", "TABLE ATTACH", "INDEX ATTACH", "ROW SECURITY"}

// take notes the refusal of an entry, if err is one and the session has outlived it.
func (x *refusals) take(conn *pgx.Conn, e *archive.Entry, err error) bool {
	var refused *Error
	if !errors.As(err, &refused) || conn.IsClosed() || !RefusedForGood(err) {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ids[e.ID] = e
	x.list = append(x.list, refused.Finding)
	return true
}

func (x *refusals) any() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.ids) > 0
}

// has reports whether an entry could not be made.
func (x *refusals) has(id int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ids[id] != nil
}

// findings are all that could not be made, in the archive's order.
func (x *refusals) findings() []finding.Finding {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := slices.Clone(x.list)
	slices.SortStableFunc(out, func(a, b finding.Finding) int { return a.ID - b.ID })
	return out
}

// passingClasses are SQLSTATE classes of what is no answer to a statement: the connection,
// the server's resources, its operator, its disk, a transaction that has to be done again.
var passingClasses = []string{"08", "40", "53", "57", "58"}

// RefusedForGood reports whether an error is the server's word on a statement, which
// another attempt would get too.
func RefusedForGood(err error) bool {
	said, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !pg.ConnectionLost(err) && len(said.Code) == 5 && !slices.Contains(passingClasses, said.Code[:2])
}

// Error is the failure that stopped a restore, or the refusal of a statement.
type Error struct {
	Finding   finding.Finding
	Err       error          // the driver's error
	Statement plan.Statement // of Run and RunAfter; zero where an entry was restored
}

func (e *Error) Error() string {
	return "restore " + e.Finding.String()
}

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
	case "ACL", "EVENT TRIGGER": // privileges may be on what the platform owns, such as members of an extension
		return denied
	case plan.KindOwner:
		return denied || code == pg.CodeUndefinedObject || code == pg.CodeFeatureNotSupported
	case plan.KindProperties:
		return denied || code == pg.CodeUndefinedObject || code == pg.CodeInvalidParameter
	}
	return false
}

// remedy says what to do about an entry that the target refused with this SQLSTATE.
func remedy(e *archive.Entry, code string) string {
	switch e.Kind {
	case plan.KindOwner:
		return "it stays with the role that restores: change the owner by hand where it matters"
	case plan.KindProperties:
		return "set it by hand where it matters"
	case "COMMENT", "SECURITY LABEL":
		return ""
	case "EVENT TRIGGER":
		return "let a superuser of the target make it"
	case "EXTENSION":
		if code == pg.CodeDuplicateObject {
			return ""
		}
		return "enable the extension on the target, or drop it on the source"
	}
	if code == pg.CodeUndefinedObject && plan.MentionsRoles(e.Kind) {
		return "make the role on the target (--roles makes all), or leave privileges out with --no-acl"
	}
	if e.Kind == "ACL" || e.Kind == "DEFAULT ACL" {
		return "grant it by hand where it matters"
	}
	switch code {
	case pg.CodeInsufficientPrivilege:
		return "the role of --target may not make it: drop it on the source, or leave its schema out with --exclude-schema"
	case pg.CodeDuplicateObject, pg.CodeDuplicateTable, pg.CodeDuplicateSchema, codeDuplicateFunction:
		return "the target has one already: use an empty database, or --clean"
	case pg.CodeUndefinedObject, pg.CodeUndefinedTable, pg.CodeUndefinedColumn, pg.CodeUndefinedFunction, pg.CodeInvalidSchema:
		return "it needs something that the target lacks: make that there, or take it along"
	case pg.CodeUndefinedFile, pg.CodeFeatureNotSupported:
		return "the target's server cannot do this: drop it on the source, or leave its schema out with --exclude-schema"
	}
	return ""
}
