package preflight

import (
	"context"
	"fmt"

	"crossfade/internal/pg"
)

// offer is an extension as the target offers it.
type offer struct {
	Name, Default string
	Installed     bool // in the target's database already
	Allowed       bool // our role may create it
}

func (p *Preflight) checkExtensions(ctx context.Context) ([]Finding, error) {
	type extension struct{ Name, Version string }
	used, err := list[extension](ctx, p.source, "extensions of the source", `
		SELECT extname::text, extversion FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1`)
	if err != nil || len(used) == 0 {
		return nil, err
	}
	offers, err := list[offer](ctx, p.target, "extensions of the target", `
		SELECT a.name::text, coalesce(a.default_version, ''), a.installed_version IS NOT NULL,
			(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
				OR NOT v.superuser OR coalesce((to_jsonb(v)->>'trusted')::bool, false)
		FROM pg_available_extensions a
		JOIN pg_available_extension_versions v ON v.name = a.name AND v.version = a.default_version`)
	if err != nil {
		return nil, err
	}
	offered := map[string]offer{}
	for _, o := range offers {
		offered[o.Name] = o
	}
	var found []Finding
	for _, u := range used {
		o, ok := offered[u.Name]
		found = append(found, extensionFindings(u.Name, u.Version, o, ok)...)
	}
	if p.opts.Mode == Copy {
		return found, nil // their rows are copied, and a copy follows nothing
	}
	data, err := p.extensionData(ctx)
	return append(found, data...), err
}

// extensionData names the tables in which extensions keep what the user told
// them: they belong to the extension, so they are in no publication.
func (p *Preflight) extensionData(ctx context.Context) ([]Finding, error) {
	type table struct{ Extension, Schema, Name string }
	tables, err := list[table](ctx, p.source, "tables of extensions", `
		SELECT e.extname::text, n.nspname::text, c.relname::text
		FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig) JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND pg_relation_size(c.oid) > 0 ORDER BY 1, 2, 3`)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, t := range tables {
		found = append(found, Finding{
			Code: "extension_data", Severity: Warning, Object: pg.Name{Schema: t.Schema, Name: t.Name}.Display(),
			Detail: fmt.Sprintf("belongs to extension %s; rows that users added to it are copied as they are then, no stream carries what changes in them until the cutover", t.Extension),
			Remedy: "have the extension left as it is until the cutover, or repeat later changes on the target by hand",
		})
	}
	return found, nil
}

func extensionFindings(name, version string, o offer, offered bool) []Finding {
	switch {
	case !offered:
		return []Finding{{
			Code: "extension_missing", Severity: Blocker, Object: name,
			Detail: fmt.Sprintf("the source uses extension %s %s, which the target does not have", name, version),
			Remedy: fmt.Sprintf("enable it on the target, or DROP EXTENSION %s on the source", pg.QuoteIdent(name)),
		}}
	case !o.Installed && !o.Allowed:
		return []Finding{{
			Code: "extension_not_allowed", Severity: Blocker, Object: name,
			Detail: "the target has the extension, but only a superuser may create it",
			Remedy: fmt.Sprintf("let a superuser run CREATE EXTENSION %s in the target's database first", pg.QuoteIdent(name)),
		}}
	case o.Default != version:
		return []Finding{{
			Code: "extension_version", Severity: Warning, Object: name,
			Detail: fmt.Sprintf("the source has version %s, the target makes %s", version, o.Default),
			Remedy: "read the extension's release notes for what changed between the two",
		}}
	}
	return nil
}
