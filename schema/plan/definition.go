package plan

import (
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/roles"
)

// relkindPartitioned is pg_class.relkind of a partitioned table.
const relkindPartitioned = 'p'

// Rewrite says what is changed in the definitions of the source.
type Rewrite struct {
	// Roles maps the source's role names to the target's. A role that is not in it keeps its name.
	Roles map[string]string
	// Owners are the owners that objects get; without any they stay with the role that restores.
	Owners Owners
	// Database is the name of the target's database, whose properties, comment and
	// privileges become the source's; "" to leave them as they are.
	Database string
	// Disordered are the source's tables whose columns CREATE TABLE … INHERITS would put
	// into another order, and Major is the target's version, which making them asks for.
	Disordered []catalog.Disordered
	Major      int
	// Path is the search_path under which expressions that call users' functions are
	// evaluated, as SET takes it; "" for none.
	Path string
	// KeepUnlogged leaves unlogged tables and sequences unlogged.
	KeepUnlogged bool
}

// Definition returns an entry's own SQL, as the target shall execute it. It is ""
// where nothing is to be done.
func Definition(e *archive.Entry, w Rewrite) (string, []finding.Finding) {
	sql := e.Definition
	var findings []finding.Finding
	if OfDatabase(e) {
		if w.Database == "" {
			return "", nil
		}
		sql = OfTarget(sql, w.Database)
	}
	switch {
	case e.Kind == KindOwner:
		return ownerSQL(e, w.Owners), nil
	case MentionsRoles(e.Kind):
		var left []string
		sql, left = roles.Map(sql, w.Roles)
		for _, statement := range left {
			message := "left out, since the role belongs to the source's platform"
			if e.Kind != KindProperties { // whose value may be a secret
				message += ": " + statement
			}
			findings = append(findings, finding.Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, Harmless: true, Message: message})
		}
	case (e.Kind == "TABLE" || e.Kind == "SEQUENCE") && !w.KeepUnlogged:
		sql = Logged(sql)
	}
	if e.Kind == "TABLE" || e.Kind == "FOREIGN TABLE" {
		for _, d := range w.Disordered {
			if d.OID == e.OID {
				sql = ordered(sql, d, w.Major)
			}
		}
	}
	if e.AccessMethod == "" || e.Kind != "TABLE" && e.Kind != "MATERIALIZED VIEW" {
		return sql, findings
	}
	if e.RelKind == relkindPartitioned {
		return sql + "\n;ALTER TABLE " + pg.Name{Schema: e.Schema, Name: e.Tag}.String() +
			" SET ACCESS METHOD " + pg.QuoteIdent(e.AccessMethod), findings
	}
	return "SET LOCAL default_table_access_method = " + pg.QuoteIdent(e.AccessMethod) + ";\n" + sql, findings
}
