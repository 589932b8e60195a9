package extension

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

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
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, t := range tables {
		if f, wrong := t.finding(role.Name); wrong {
			found = append(found, f)
		}
	}
	return found, nil
}

func (t configuration) finding(role string) (answer.Finding, bool) {
	name := pg.Name{Schema: t.Schema, Name: t.Name}
	f := answer.Finding{
		Code: "extension_data_not_readable", Severity: answer.Blocker, Object: name.Display(),
		Detail: fmt.Sprintf("extension %s keeps in it what users told it, and role %s may not read it", t.Extension, role),
	}
	switch {
	case !t.Open:
		f.SQL = fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;\nGRANT SELECT ON %s TO %s", pg.QuoteIdent(t.Schema), pg.QuoteIdent(role), name, pg.QuoteIdent(role))
	case !t.Readable:
		f.SQL = fmt.Sprintf("GRANT SELECT ON %s TO %s", name, pg.QuoteIdent(role))
	case t.RowsHidden:
		f.Detail = fmt.Sprintf("extension %s keeps in it what users told it, and policies would hide rows from role %s", t.Extension, role)
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
		rows, err := inquiry.One[struct{ There bool }](ctx, p.Source, "rows of "+name.Display(), fmt.Sprintf("SELECT EXISTS (SELECT FROM %s %s)", name, t.Condition))
		if err != nil {
			return nil, err
		}
		if !rows.There {
			continue
		}
		found = append(found, answer.Finding{
			Code: "extension_data", Severity: answer.Warning, Object: name.Display(),
			Detail: fmt.Sprintf("belongs to extension %s; rows that users added to it are copied as they are then, no stream carries what changes in them until the cutover", t.Extension),
			Remedy: "have the extension left as it is until the cutover: changes that are seen refuse it (extension_rows_changed), and are then repeated on the target by hand",
		})
	}
	return found, nil
}
