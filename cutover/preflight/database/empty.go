package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
)

// maxNamed bounds how many objects one finding lists: a target that was filled
// by mistake may hold thousands.
const maxNamed = 5

// TargetEmpty names what the target has already, as far as it is in the way.
func TargetEmpty(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.Clean || p.Options.Scope.DataOnly {
		return nil, nil // there may be objects; what is in the way is found when it is met
	}
	there, err := userObjects(ctx, p.Target, inquiry.Scope{})
	if err != nil {
		return nil, err
	}
	if !p.Options.Scope.Everything() { // a copy of a part is possible next to objects with other names
		taken, err := userObjects(ctx, p.Source, p.Options.Scope)
		if err != nil {
			return nil, err
		}
		there = lists.Filter(there, func(name string) bool { return slices.Contains(taken, name) })
	}
	if p.Options.Resume { // the run that is continued cannot have made what the source does not have
		source, err := userObjects(ctx, p.Source, inquiry.Scope{})
		if err != nil {
			return nil, err
		}
		copied := lists.Set(source)
		there = lists.Filter(there, func(name string) bool { return !copied[name] })
	}
	if len(there) == 0 {
		return nil, nil
	}
	f := answer.Finding{
		Code: "target_not_empty", Severity: answer.Blocker, Object: there[0],
		Detail: "the target's database already has " + named(there),
		Remedy: "use an empty database; if a migration that was finished has filled this one, point the applications at it",
	}
	if p.Options.Mode == inquiry.Copy {
		f.Remedy = "use an empty database, or give --clean, which drops what is in the way"
	}
	here, err := userObjects(ctx, p.Source, inquiry.Scope{})
	if err != nil {
		return nil, err
	}
	if len(here) == 0 {
		f.Detail += ", and the source's has nothing"
		f.Remedy = "if --source and --target are exchanged, give the one as the other; else " + f.Remedy
	}
	return []answer.Finding{f}, nil
}

func named(names []string) string {
	if len(names) <= maxNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), len(names)-maxNamed)
}

// Objects returns the names of what users have made in a database, as they keep a target from being
// empty.
func Objects(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return userObjects(ctx, conn, inquiry.Scope{})
}

// userObjects returns the names of what the user made: relations, functions and
// types. What a relation, a type or an extension brings along is left out.
func userObjects(ctx context.Context, conn *pgx.Conn, scope inquiry.Scope) ([]string, error) {
	type object struct{ Schema, Name string }
	objects, err := inquiry.List[object](ctx, conn, "objects of the database", `
		SELECT nsp, name FROM (
			SELECT n.nspname::text AS nsp, c.relname::text AS name, CASE c.relkind WHEN 'S' THEN 2 ELSE 1 END AS sort`+
		inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
			UNION ALL
			SELECT n.nspname::text, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 3
			FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE`+inquiry.UserSchema+`AND ($2::oid[] IS NULL OR n.oid = ANY ($2)) AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
			UNION ALL
			SELECT n.nspname::text, t.typname::text, 4
			FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
			WHERE`+inquiry.UserSchema+`AND ($2::oid[] IS NULL OR n.oid = ANY ($2)) AND (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
				AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype IN ('e', 'i'))
		) o ORDER BY sort, nsp, name`, scope.Relations(), scope.Schemas())
	return lists.Map(objects, func(o object) string { return pg.Name{Schema: o.Schema, Name: o.Name}.Display() }), err
}

// LeftOver reports a run or copy that exists already. Otherwise the objects that it has made would
// be reported as being in the way.
func LeftOver(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Resume || p.Options.LeftOver == nil {
		return nil, nil
	}
	detail, remedy, err := p.Options.LeftOver(ctx)
	if err != nil || detail == "" {
		return nil, err
	}
	return []answer.Finding{{Code: "left_over_run", Severity: answer.Blocker, Object: "crossfade", Detail: detail, Remedy: remedy}}, nil
}

// OneDatabase refuses two names of one database, and a standby as the target: what a run
// drops, makes and writes there would be dropped, made and written on the source.
func OneDatabase(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	err := onedatabase.Refuse(ctx, p.Source, p.Target)
	var one *onedatabase.Error
	var standby *onedatabase.StandbyError
	switch {
	case errors.As(err, &one):
		detail, remedy := one.Parts()
		return []answer.Finding{{Code: "one_database", Severity: answer.Blocker, Object: one.Database, Detail: detail, Remedy: remedy}}, nil
	case errors.As(err, &standby):
		return []answer.Finding{{Code: "standby", Severity: answer.Blocker, Detail: standby.Detail, Remedy: standby.Remedy}}, nil
	}
	return nil, err
}
