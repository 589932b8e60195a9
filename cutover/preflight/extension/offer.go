package extension

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/base/pg"
)

// offer is an extension as the target offers it.
type offer struct {
	Name, Default string
	Installed     string   // version in the target's database, "" where it is not there yet
	Allowed       bool     // our role may create it
	Versions      []string // that can be made
	Schema        string   // that it is in on the target, "" where it is not there yet
	Only          string   // the one schema that the default version can be made in, "" for any
	Moves         bool     // the installed one can be given another schema
	Updates       []string // versions to which the installed one can be updated
}

// made are the statements that make an extension on the target as the source has it, as far as the
// target can.
func (o offer) made(u extension) string {
	sql, schema := "CREATE EXTENSION "+pg.QuoteIdent(u.Name), pg.QuoteIdent(u.Schema)
	if o.Only == "" {
		sql = inSchema(schema) + sql + " SCHEMA " + schema
	}
	if o.Default != u.Version && slices.Contains(o.Versions, u.Version) {
		sql += " VERSION " + pg.QuoteLiteral(u.Version)
	}
	return sql
}

// inSchema makes a schema for an extension if it may be missing: the server's own schemas always
// exist, and no role may create them.
func inSchema(quoted string) string {
	if strings.HasPrefix(quoted, `"pg_`) {
		return ""
	}
	return "CREATE SCHEMA IF NOT EXISTS " + quoted + ";\n"
}

// schemaFinding compares the schemas of an extension: what the source's objects name in
// the one is not found in another.
func schemaFinding(u extension, o offer) (answer.Finding, bool) {
	to, name := pg.QuoteIdent(u.Schema), pg.QuoteIdent(u.Name)
	f := answer.Finding{Code: "extension_schema", Severity: answer.Blocker, Object: u.Name}
	switch {
	case o.Installed != "" && o.Schema != u.Schema:
		f.Detail = fmt.Sprintf("the source has it in schema %s, the target's database in %s: objects that the source's schema looks for in %s would not be found", u.Schema, o.Schema, u.Schema)
		f.On, f.SQL = answer.Target, inSchema(to)+fmt.Sprintf("ALTER EXTENSION %s SET SCHEMA %s", name, to)
		f.Remedy = "in the target's database: " + answer.OneLine(f.SQL)
		if !o.Moves {
			f.SQL = "DROP EXTENSION " + name + ";\n" + o.made(u)
			f.Remedy = "in the target's database, where nothing uses it yet: " + answer.OneLine(f.SQL)
		}
	case o.Installed == "" && o.Only != "" && o.Only != u.Schema:
		f.Detail = fmt.Sprintf("the source has it in schema %s, and the target can make it in %s only", u.Schema, o.Only)
		f.On, f.SQL = answer.Source, fmt.Sprintf("ALTER EXTENSION %s SET SCHEMA %s", name, pg.QuoteIdent(o.Only))
		f.Remedy = "in the source's database: " + f.SQL
		if !u.Moves {
			f.SQL = fmt.Sprintf("DROP EXTENSION %s;\nCREATE EXTENSION %s SCHEMA %s", name, name, pg.QuoteIdent(o.Only))
			f.Remedy = "in the source's database, where nothing uses it: " + answer.OneLine(f.SQL)
		}
	default:
		return answer.Finding{}, false
	}
	return f, true
}

func extensionFindings(u extension, o offer, offered bool) []answer.Finding {
	name := pg.QuoteIdent(u.Name)
	switch {
	case !offered:
		return []answer.Finding{{
			Code: "extension_missing", Severity: answer.Blocker, Object: u.Name,
			Detail: fmt.Sprintf("the source uses extension %s %s, which the target does not have", u.Name, u.Version),
			Remedy: fmt.Sprintf("have it installed on the target's server (Neon: see which it offers), or DROP EXTENSION %s on the source", name),
		}}
	case o.Installed == "" && !o.Allowed:
		f := answer.Finding{
			Code: "extension_not_allowed", Severity: answer.Blocker, Object: u.Name,
			Detail: "the target's server offers the extension, but only a superuser may create it",
			On:     answer.Target, SQL: o.made(u),
		}
		f.Remedy = "let a superuser execute in the target's database first: " + answer.OneLine(f.SQL)
		return []answer.Finding{f}
	}
	gets := cmp.Or(o.Installed, o.Default)
	if gets == u.Version {
		return nil
	}
	f := answer.Finding{
		Code: "extension_version", Severity: answer.Warning, Object: u.Name,
		Detail: fmt.Sprintf("the source has version %s, the target makes %s", u.Version, gets),
		Remedy: "read the extension's release notes for what changed between the two",
	}
	if o.Installed != "" {
		f.Detail = fmt.Sprintf("the source has version %s, the target's database %s", u.Version, gets)
	}
	switch {
	case o.Installed == "" && slices.Contains(o.Versions, u.Version):
		f.On, f.SQL = answer.Target, o.made(u)
		f.Remedy = "in the target's database first: " + answer.OneLine(f.SQL)
	case slices.Contains(o.Updates, u.Version):
		f.On, f.SQL = answer.Target, fmt.Sprintf("ALTER EXTENSION %s UPDATE TO %s", name, pg.QuoteLiteral(u.Version))
		f.Remedy = f.SQL + " in the target's database"
	case slices.Contains(u.Updates, gets):
		f.On, f.SQL = answer.Source, fmt.Sprintf("ALTER EXTENSION %s UPDATE TO %s", name, pg.QuoteLiteral(gets))
		f.Remedy = f.SQL + " on the source; or read its release notes for what changed between the two"
	case slices.Contains(o.Versions, u.Version):
		f.On, f.SQL = answer.Target, "DROP EXTENSION "+name+";\n"+o.made(u)
		f.Remedy = "in the target's database, where nothing uses it yet: " + answer.OneLine(f.SQL)
	case older(gets, u.Version):
		f.Detail += ", which is older: what came since is missing, and the restore stops at an object that needs it"
		f.Remedy = "update the target's server (Neon: restart the compute), or bring the extension at the source to a version that the target has: " + strings.Join(o.Versions, ", ")
	}
	return []answer.Finding{f}
}

// older reports whether version a comes before b, as far as both are numbers with
// dots between them.
func older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		m, errM := strconv.Atoi(x[i])
		n, errN := strconv.Atoi(y[i])
		if errM != nil || errN != nil {
			return false
		}
		if m != n {
			return m < n
		}
	}
	return len(x) < len(y)
}
