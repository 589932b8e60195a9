package restore

import (
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
)

// SQLSTATEs of refusals that have a remedy of their own.
const (
	codeUndefinedFile   = "58P01" // an extension or library that the server does not have
	codeWrongObjectType = "42809"
	codeDependent       = "2BP01"
)

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
	case pg.CodeUndefinedObject, pg.CodeUndefinedTable, pg.CodeUndefinedColumn, "42883", "3F000":
		return "it needs something that the target lacks: make that there, or take it along"
	case codeUndefinedFile, pg.CodeFeatureNotSupported:
		return "the target's server cannot do this: drop it on the source, or leave its schema out with --exclude-schema"
	}
	return ""
}
