package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/control"
	"crossfade/schema"
)

// changes compares what the target has with the newest archive, where that differs
// from the one that was restored, and what both catalogs hold.
func (d *definitions) changes(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
	m := d.migration
	var out []notice
	if compared := schema.Compare(m.plan, m.newest()); compared.Pending() {
		rewrite, err := m.rewriting(ctx, target)
		if err != nil {
			return nil, err
		}
		raw, err := d.dump(ctx, m.target, d.waiting[1])
		if err != nil {
			return nil, err
		}
		archive, err := schema.ParseArchive(raw)
		if err != nil {
			return nil, err
		}
		missing, err := schema.MissingValues(ctx, source)
		if err != nil {
			return nil, err
		}
		cfg := schema.ChangesConfig{Missing: missing, Rewrite: rewrite, Self: m.target.User(), Target: archive, NoOwners: m.opts.NoOwner}
		out = changeNotices("definition_differs", compared.Changes(cfg))
	}
	if len(out) > 0 {
		return out, nil
	}
	// Whoever changed the target alone is found in its catalog.
	opts := schema.FingerprintOptions{Deferred: true, Checks: m.lateChecks()}
	a, err := schema.TakeFingerprint(ctx, source, opts)
	if err != nil {
		return nil, err
	}
	b, err := schema.TakeFingerprint(ctx, target, opts)
	if err != nil {
		return nil, err
	}
	for i, x := range schema.Drift(a, b) {
		if i == mostChanges {
			break
		}
		out = append(out, notice{Blocker: control.Blocker{Code: "definition_differs", Detail: "the target is not as the source: " + x.String(), Remedy: "make the target as the source is, or take the change back"}})
	}
	return out, nil
}

// changeNotices puts changes into words.
func changeNotices(code string, all []schema.Change) []notice {
	var out []notice
	for i, c := range all {
		if i == mostChanges {
			out = append(out, notice{Blocker: control.Blocker{Code: code, Detail: fmt.Sprintf("%d more differences", len(all)-i), Remedy: "remove those that are named first"}})
			break
		}
		remedy := "make the same change on the target, or take it back on the source"
		switch {
		case strings.Contains(c.SQL, " TYPE "): // taken back, it would write the rows again
			remedy = "on the target: " + c.SQL
		case c.SQL != "":
			remedy = "on the target: " + c.SQL + " Or take the change back on the source"
		}
		out = append(out, notice{Blocker: control.Blocker{Code: code, Detail: c.String(), Remedy: remedy}})
	}
	return out
}

// roles compares what the source's roles have become with those of the target.
func (d *definitions) roles(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
	var kept schema.Roles
	if err := json.Unmarshal([]byte(d.migration.id.target.Roles), &kept); err != nil {
		return nil, fmt.Errorf("read the kept roles: %w", err)
	}
	now, err := schema.ReadRoles(ctx, source)
	if err != nil {
		return nil, err
	}
	there, err := schema.ReadRoles(ctx, target)
	if err != nil {
		return nil, err
	}
	return changeNotices("role_differs", schema.RoleChanges(kept, now.WithoutValues(), there.WithoutValues(), d.migration.roles)), nil
}
