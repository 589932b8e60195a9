package preflight

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"crossfade/internal/pg"
)

// offer is an extension as the target offers it.
type offer struct {
	Name, Default string
	Installed     string   // version in the target's database, "" where it is not there yet
	Allowed       bool     // our role may create it
	Versions      []string // that can be made
}

func (p *Preflight) checkExtensions(ctx context.Context) ([]Finding, error) {
	if p.opts.Scope.DataOnly {
		return nil, nil
	}
	type extension struct{ Name, Version string }
	used, err := list[extension](ctx, p.source, "extensions of the source", `
		SELECT extname::text, extversion FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1`)
	if err != nil || len(used) == 0 {
		return nil, err
	}
	offers, err := list[offer](ctx, p.target, "extensions of the target", `
		SELECT a.name::text, coalesce(a.default_version, ''), coalesce(a.installed_version, ''),
			(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
				OR NOT v.superuser OR coalesce((to_jsonb(v)->>'trusted')::bool, false),
			ARRAY(SELECT x.version::text FROM pg_available_extension_versions x WHERE x.name = a.name)
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
	found = p.ofObjects(found)
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
	case o.Installed == "" && !o.Allowed:
		return []Finding{{
			Code: "extension_not_allowed", Severity: Blocker, Object: name,
			Detail: "the target has the extension, but only a superuser may create it",
			Remedy: fmt.Sprintf("let a superuser run CREATE EXTENSION %s in the target's database first", pg.QuoteIdent(name)),
		}}
	}
	gets := cmp.Or(o.Installed, o.Default)
	if gets == version {
		return nil
	}
	f := Finding{
		Code: "extension_version", Severity: Warning, Object: name,
		Detail: fmt.Sprintf("the source has version %s, the target makes %s", version, gets),
		Remedy: "read the extension's release notes for what changed between the two",
	}
	if o.Installed != "" {
		f.Detail = fmt.Sprintf("the source has version %s, the target's database %s", version, gets)
	}
	switch {
	case slices.Contains(o.Versions, version) && o.Installed != "":
		f.Remedy = fmt.Sprintf("ALTER EXTENSION %s UPDATE TO %s in the target's database", pg.QuoteIdent(name), pg.QuoteLiteral(version))
	case slices.Contains(o.Versions, version):
		f.Remedy = fmt.Sprintf("CREATE EXTENSION %s VERSION %s in the target's database first", pg.QuoteIdent(name), pg.QuoteLiteral(version))
	case older(gets, version):
		f.Detail += ", which is older: what came since is missing, and the restore stops at an object that needs it"
		f.Remedy = "update the target's server (Neon: restart the compute), or bring the extension at the source to a version that the target has: " + strings.Join(o.Versions, ", ")
	}
	return []Finding{f}
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
