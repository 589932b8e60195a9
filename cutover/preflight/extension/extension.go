package extension

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// extension is one that the source uses.
type extension struct {
	Name, Version, Schema string
	Moves                 bool     // it can be given another schema
	Updates               []string // versions that the source can bring it to
}

// ofSource are the columns of an extension.
const ofSource = `e.extname::text, e.extversion, n.nspname::text, e.extrelocatable,
	CASE WHEN EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = e.extname)
	THEN ARRAY(SELECT u.target FROM pg_extension_update_paths(e.extname) u WHERE u.source = e.extversion AND u.path IS NOT NULL) ELSE '{}' END`

// neededExtensions are those that the relations $1 and the functions and types of the
// schemas $2 use, or that have a configuration table among the relations.
const neededExtensions = `
WITH taken AS (
	SELECT 'pg_class'::regclass AS classid, unnest($1::oid[]) AS objid
	UNION SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = ANY ($1)
	UNION SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid = ANY ($1)
	UNION SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid = ANY ($1)
	UNION SELECT 'pg_rewrite'::regclass, oid FROM pg_rewrite WHERE ev_class = ANY ($1)
	UNION SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = ANY ($2::oid[])
	UNION SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = ANY ($2)
), used AS (
	SELECT d.refclassid, CASE WHEN d.refclassid = 'pg_type'::regclass
		THEN coalesce((SELECT t.typelem FROM pg_type t WHERE t.oid = d.refobjid AND t.typelem <> 0 AND t.typlen = -1), d.refobjid) ELSE d.refobjid END AS refobjid
	FROM pg_depend d JOIN taken USING (classid, objid) WHERE d.deptype <> 'e'
	AND NOT EXISTS (SELECT FROM pg_depend o WHERE o.classid = d.classid AND o.objid = d.objid AND o.deptype = 'e') -- what an extension brings is not copied
)
SELECT ` + ofSource + ` FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname <> 'plpgsql' AND (e.extconfig && $1 OR EXISTS (
	SELECT FROM used u JOIN pg_depend m ON m.classid = u.refclassid AND m.objid = u.refobjid
	WHERE m.deptype = 'e' AND m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid))
ORDER BY 1`

// usedExtensions are the extensions that the target needs. With patterns that leave out objects
// outside any schema, the copy does not make them, and they are needed all the same.
func usedExtensions(ctx context.Context, p *inquiry.Pair) ([]extension, error) {
	if !p.Options.Scope.Everything() {
		return inquiry.List[extension](ctx, p.Source, "extensions that are needed", neededExtensions, p.Options.Scope.Relations(), p.Options.Scope.Schemas())
	}
	return inquiry.List[extension](ctx, p.Source, "extensions of the source", `
		SELECT `+ofSource+` FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname <> 'plpgsql' ORDER BY 1`)
}

// Compare asks whether the target can have the extensions that the source uses, as the source has
// them, and what becomes of the rows that users keep in them.
func Compare(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.DataOnly {
		return configurationRights(ctx, p)
	}
	used, err := usedExtensions(ctx, p)
	if err != nil {
		return nil, err
	}
	offers, err := inquiry.List[offer](ctx, p.Target, "extensions of the target", `
		WITH versions AS MATERIALIZED (SELECT * FROM pg_available_extension_versions)
		SELECT a.name::text, coalesce(a.default_version, ''), coalesce(a.installed_version, ''),
			(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
				OR NOT v.superuser OR coalesce((to_jsonb(v)->>'trusted')::bool, false),
			ARRAY(SELECT x.version::text FROM versions x WHERE x.name = a.name),
			coalesce(n.nspname::text, ''), coalesce(v.schema::text, ''), coalesce(e.extrelocatable, false),
			CASE WHEN e.oid IS NULL THEN '{}' ELSE ARRAY(SELECT u.target FROM pg_extension_update_paths(a.name) u WHERE u.source = e.extversion AND u.path IS NOT NULL) END
		FROM pg_available_extensions a
		JOIN versions v ON v.name = a.name AND v.version = a.default_version
		LEFT JOIN pg_extension e ON e.extname = a.name LEFT JOIN pg_namespace n ON n.oid = e.extnamespace`)
	if err != nil {
		return nil, err
	}
	offered := lists.By(offers, func(o offer) string { return o.Name })
	var found []answer.Finding
	for _, u := range used {
		o, ok := offered[u.Name]
		switch {
		case ok && o.Installed == "" && !p.Options.Scope.Everything():
			found = append(found, answer.Finding{
				Code: "extension_left_out", Severity: answer.Blocker, Object: u.Name,
				Detail: "patterns leave extensions out, as with pg_dump, and what is copied needs this one, which the target's database does not have",
				On:     answer.Target, SQL: o.made(u),
			})
			last := &found[len(found)-1]
			last.Remedy = "in the target's database: " + answer.OneLine(last.SQL)
		default:
			found = append(found, extensionFindings(u, o, ok)...)
		}
		if f, wrong := schemaFinding(u, o); ok && wrong {
			found = append(found, f)
		}
	}
	rights, err := configurationRights(ctx, p)
	if err != nil {
		return nil, err
	}
	found = append(found, rights...)
	if p.Options.Mode == inquiry.Copy {
		return found, nil // their rows are copied, and a copy follows nothing
	}
	data, err := extensionData(ctx, p)
	return append(found, data...), err
}

// configuration is a table or a sequence in which an extension keeps what users told it.
type configuration struct {
	Extension, Schema, Name    string
	Open, Readable, RowsHidden bool
}

// configurationRights asks whether our role may read what users keep in tables of
// extensions. The jobs of pg_cron have a check of their own.
func configurationRights(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.SchemaOnly {
		return nil, nil
	}
	role, err := inquiry.CurrentRole(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	tables, err := inquiry.List[configuration](ctx, p.Source, "rights on tables of extensions", `
		SELECT e.extname::text, n.nspname::text, c.relname::text, has_schema_privilege(n.oid, 'USAGE'),
			CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE has_table_privilege(c.oid, 'SELECT') END, row_security_active(c.oid)
		FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig) JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'S') AND (e.extname <> 'pg_cron' OR c.relname <> 'job') AND`+inquiry.OnlyTaken+`ORDER BY 1, 2, 3`, p.Options.Scope.WithRows())
	return lists.Pick(tables, func(t configuration) (answer.Finding, bool) { return t.finding(role.Name) }), err
}

func (t configuration) finding(role string) (answer.Finding, bool) {
	name := pg.Name{Schema: t.Schema, Name: t.Name}
	f := answer.Finding{
		Code: "extension_data_not_readable", Severity: answer.Blocker, Object: name.Display(),
		Detail: fmt.Sprintf("extension %s keeps its users' configuration in this table, and role %s may not read it", t.Extension, role),
	}
	switch {
	case !t.Open:
		f.SQL = fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\nGRANT SELECT ON %s TO %s", pg.QuoteIdent(t.Schema), pg.QuoteIdent(role), name, pg.QuoteIdent(role))
	case !t.Readable:
		f.SQL = fmt.Sprintf("GRANT SELECT ON %s TO %s", name, pg.QuoteIdent(role))
	case t.RowsHidden:
		f.Detail = fmt.Sprintf("extension %s keeps its users' configuration in this table, and policies would hide rows from role %s", t.Extension, role)
		f.SQL = fmt.Sprintf("ALTER ROLE %s BYPASSRLS", pg.QuoteIdent(role))
	default:
		return answer.Finding{}, false
	}
	f.On, f.Remedy = answer.Source, answer.OneLine(f.SQL)+" (on the source)"
	return f, true
}

// extensionData names the tables in which extensions keep data of the user: they belong to the
// extension, so they are in no publication. Rows that the extension itself brings, which its
// condition leaves out, do not count. Tables that our role may not read are reported by
// configurationRights.
func extensionData(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	type table struct{ Extension, Schema, Name, Condition string }
	tables, err := inquiry.List[table](ctx, p.Source, "tables of extensions", `
		SELECT e.extname::text, n.nspname::text, c.relname::text, coalesce(e.extcondition[x.at], '')
		FROM pg_extension e CROSS JOIN LATERAL unnest(e.extconfig) WITH ORDINALITY x (oid, at)
		JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND pg_relation_size(c.oid) > 0 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid) ORDER BY 1, 2, 3`)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, t := range tables {
		name := pg.Name{Schema: t.Schema, Name: t.Name}
		rows, err := inquiry.Value[bool](ctx, p.Source, "rows of "+name.Display(), fmt.Sprintf("SELECT EXISTS (SELECT FROM %s %s)", name, t.Condition))
		if err != nil {
			return nil, err
		}
		if !rows {
			continue
		}
		found = append(found, answer.Finding{
			Code: "extension_data", Severity: answer.Warning, Object: name.Display(),
			Detail: fmt.Sprintf("belongs to extension %s, so that no stream carries the rows that users added to it: they are copied, and copied again whenever they change before the cutover", t.Extension),
			Remedy: "keep these rows few, and change them seldom until the cutover: it is refused if they cannot be copied again (extension_rows_changed) or take too long to be read (extension_rows_unseen)",
		})
	}
	return found, nil
}
