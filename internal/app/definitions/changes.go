package definitions

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/watch"
	"crossfade/schema/changes"
	"crossfade/schema/finding"
	"crossfade/schema/fingerprint"
	"crossfade/schema/plan"
	"crossfade/schema/roles"
)

// changes compares what the target has with the newest archive, where that differs
// from the one that was restored, and what both catalogs hold.
func (d *Comparer) changes(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	m := d.Migration
	var out []watch.Notice
	if compared := changes.Compare(m.Schema.Plan, m.Schema.Newest()); compared.Pending() {
		rewrite, err := m.Schema.Rewriting(ctx, target)
		if err != nil {
			return nil, err
		}
		raw, err := d.dump(ctx, m.Task.Target, d.Waiting[1])
		if err != nil {
			return nil, err
		}
		archive, err := plan.ParseArchive(raw)
		if err != nil {
			return nil, err
		}
		missing, err := changes.MissingValues(ctx, source)
		if err != nil {
			return nil, err
		}
		cfg := changes.Config{Missing: missing, Rewrite: rewrite, Self: m.Task.Target.User(), Target: archive, NoOwners: m.Task.Options.Schema.NoOwner}
		out = changeNotices("definition_differs", compared.Changes(cfg))
	}
	if len(out) > 0 {
		return out, nil
	}
	// A change of the target alone is found in its catalog.
	opts := fingerprint.Options{Deferred: true, Checks: m.Schema.LateChecks()}
	a, err := fingerprint.Take(ctx, source, opts)
	if err != nil {
		return nil, err
	}
	b, err := fingerprint.Take(ctx, target, opts)
	if err != nil {
		return nil, err
	}
	for i, x := range fingerprint.Drift(a, b) {
		if i == watch.MostChanges {
			break
		}
		remedy := "make the target as the source is; or " + watch.StartOver
		if sql := cmp.Or(x.Undo(), x.Redo(m.Schema.Newest().Archive)); sql != "" {
			remedy = "on the target: " + sql
		}
		out = append(out, watch.Notice{Blocker: control.Blocker{Code: "definition_differs", Detail: "the target is not as the source: " + x.String(), Remedy: remedy}})
	}
	return out, nil
}

// changeNotices words changes as notices.
func changeNotices(code string, all []finding.Change) []watch.Notice {
	var out []watch.Notice
	for i, c := range all {
		if i == watch.MostChanges {
			out = append(out, watch.Notice{Blocker: control.Blocker{Code: code, Detail: fmt.Sprintf("%d more differences", len(all)-i), Remedy: "remove those that are named first"}})
			break
		}
		remedy := "make the same change on the target; or take it back on the source"
		switch {
		case strings.Contains(c.SQL, " TYPE "): // taken back, it would write the rows again
			remedy = "on the target: " + c.SQL
		case c.SQL != "":
			remedy = "on the target: " + c.SQL + " Or take the change back on the source"
		}
		out = append(out, watch.Notice{Of: watch.OfTable(c.Table), Blocker: control.Blocker{Code: code, Detail: c.String(), Remedy: remedy}})
	}
	return out
}

// roles compares what the source's roles have become with those of the target.
func (d *Comparer) roles(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	var kept roles.Roles
	if err := json.Unmarshal([]byte(d.Migration.Task.Identity.Target.Roles), &kept); err != nil {
		return nil, fmt.Errorf("read the kept roles: %w", err)
	}
	now, err := roles.Read(ctx, source)
	if err != nil {
		return nil, err
	}
	there, err := roles.Read(ctx, target)
	if err != nil {
		return nil, err
	}
	return changeNotices("role_differs", roles.Changes(kept, now.WithoutValues(), there.WithoutValues(), d.Migration.Task.Roles)), nil
}
