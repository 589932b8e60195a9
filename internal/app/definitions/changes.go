package definitions

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
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

// rowIdentities are the identities of both sides that were last found to be harmless for the rows:
// of the source since its snapshot, of the target since its schema was complete. One goroutine uses
// it at a time.
type rowIdentities struct {
	kept map[string]map[uint32]fingerprint.RowIdentity // by side; nil before they are loaded
}

func (r *rowIdentities) load(ctx context.Context, target *pgx.Conn) error {
	if r.kept != nil {
		return nil
	}
	list, err := journal.LoadIdentities(ctx, target)
	if err != nil {
		return err
	}
	kept := map[string]map[uint32]fingerprint.RowIdentity{journal.SideSource: {}, journal.SideTarget: {}}
	for _, x := range list {
		var one fingerprint.RowIdentity
		if err := json.Unmarshal([]byte(x.State), &one); err != nil {
			return fmt.Errorf("read kept identity of %d: %w", x.OID, err)
		}
		kept[x.Side][x.OID] = one
	}
	r.kept = kept
	return nil
}

// check finds tables whose rows may differ although their definitions do not (C26).
func (r *rowIdentities) check(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	if err := r.load(ctx, target); err != nil {
		return nil, err
	}
	now := map[string]map[uint32]fingerprint.RowIdentity{}
	var err error
	if now[journal.SideSource], err = fingerprint.ReadRowIdentities(ctx, source); err != nil {
		return nil, err
	}
	if now[journal.SideTarget], err = fingerprint.ReadRowIdentities(ctx, target); err != nil {
		return nil, err
	}
	names := fingerprint.IdentityNames(now[journal.SideTarget])
	var found []watch.Notice
	bad := map[string]bool{} // what is reported already
	tell := func(r fingerprint.RowIdentity, format string, args ...any) {
		if bad[r.Key()] {
			return
		}
		bad[r.Key()] = true
		found = append(found, watch.Notice{Blocker: control.Blocker{Code: "rows_not_provable",
			Detail: fmt.Sprintf("rows of %s may differ from the source's: ", r.Display()) + fmt.Sprintf(format, args...), Remedy: watch.StartOver}})
	}
	next := map[string]map[uint32]fingerprint.RowIdentity{journal.SideSource: {}, journal.SideTarget: {}}
	for _, side := range []string{journal.SideSource, journal.SideTarget} {
		for oid, is := range now[side] {
			was, known := r.kept[side][oid]
			if _, there := names[is.Key()]; !there {
				continue // that the target lacks it is reported elsewhere
			}
			if !known {
				next[side][oid] = is
				continue
			}
			why, then := fingerprint.RowsKept(was, is)
			if why != "" {
				tell(is, "%s on the %s since the copy", why, side)
			}
			next[side][oid] = then
		}
	}
	onSource := fingerprint.IdentityNames(now[journal.SideSource])
	for oid, was := range r.kept[journal.SideTarget] {
		if _, copied := onSource[was.Key()]; !copied {
			continue // an object of someone else, which is reported as such
		}
		if again, there := names[was.Key()]; there && again != oid && was.IsTable() {
			tell(was, "it was dropped and made again on the target")
			next[journal.SideTarget][oid] = was
			delete(next[journal.SideTarget], again)
		}
	}
	for _, is := range next[journal.SideSource] {
		if t, ok := next[journal.SideTarget][names[is.Key()]]; ok {
			if why := fingerprint.AddedAlike(is, t); why != "" {
				tell(is, "%s", why)
			}
		}
	}
	slices.SortFunc(found, func(a, b watch.Notice) int { return strings.Compare(a.Detail, b.Detail) })
	return found, r.save(ctx, target, next)
}

// save keeps what has changed.
func (r *rowIdentities) save(ctx context.Context, target *pgx.Conn, next map[string]map[uint32]fingerprint.RowIdentity) error {
	var rows []journal.Identity
	for side, all := range next {
		changed := map[uint32]fingerprint.RowIdentity{}
		for oid, is := range all {
			if was, ok := r.kept[side][oid]; !ok || !was.Equal(is) {
				changed[oid] = is
			}
		}
		some, err := migration.IdentityRows(side, changed)
		if err != nil {
			return err
		}
		rows = append(rows, some...)
	}
	if len(rows) == 0 {
		return nil
	}
	if err := journal.SaveIdentities(ctx, target, rows); err != nil {
		return err
	}
	for side, all := range next {
		maps.Copy(r.kept[side], all)
	}
	return nil
}
