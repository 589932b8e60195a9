package database

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// backendNumbersQuery lists functions and views of the application that speak of
// backends by their numbers: a function that ends or cancels one, and a column pid of
// what PostgreSQL shows of its activity.
const backendNumbersQuery = `
	SELECT what, name FROM (
		SELECT 'function' AS what, p.oid::regprocedure::text AS name, 'pg_proc'::regclass AS class, p.oid, p.pronamespace AS namespace, p.prosrc AS text
		FROM pg_proc p WHERE p.prokind IN ('f', 'p')
		UNION ALL
		SELECT 'view', c.oid::regclass::text, 'pg_class'::regclass, c.oid, c.relnamespace, pg_get_viewdef(c.oid)
		FROM pg_class c WHERE c.relkind IN ('v', 'm')
	) AS t
	WHERE (text ~* '\mpg_(cancel|terminate)_backend\M' OR text ~* '\mpg_stat_activity\M' AND text ~* '\mpid\M')
	AND namespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'crossfade'))
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = t.oid AND d.deptype = 'e')
	ORDER BY 1, 2`

// BackendNumbers names what could take a number of the source's for a backend of the target's.
func BackendNumbers(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	type object struct{ What, Name string }
	there, err := inquiry.List[object](ctx, p.Source, "functions that name backends", backendNumbersQuery)
	return lists.Map(there, func(o object) answer.Finding {
		return answer.Finding{
			Code: "backend_numbers", Severity: answer.Warning, Object: o.Name,
			Detail: fmt.Sprintf("the %s names backends by their numbers (pg_terminate_backend, pg_cancel_backend, pg_stat_activity.pid); a number that was kept from before the cutover "+
				"belongs to no backend of the target, or to another one", o.What),
			Remedy: "do not keep numbers of backends in tables, and do not pass them to it, across the cutover: let it find them in pg_stat_activity each time, for example by application_name",
		}
	}), err
}

// EventTriggers names those that run on our DDL, on either side, and those that the target's role
// may not make.
func EventTriggers(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	var source []eventTrigger
	if p.Options.Scope.Everything() {
		var err error
		if source, err = eventTriggers(ctx, p.Source); err != nil {
			return nil, err
		}
	}
	target, err := eventTriggers(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	may, err := mayMakeEventTriggers(ctx, p)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, e := range source {
		if e.Disabled && may {
			continue
		}
		f := answer.Finding{
			Code: "event_trigger", Severity: answer.Warning, Object: e.Name,
			Detail: "runs on DDL at the source, Crossfade's own included, and is carried to the target",
			Remedy: fmt.Sprintf("unless its function ignores schema crossfade: ALTER EVENT TRIGGER %[1]s DISABLE on the source, and ALTER EVENT TRIGGER %[1]s ENABLE on the target after the cutover", pg.QuoteIdent(e.Name)),
			On:     answer.Source, SQL: fmt.Sprintf("ALTER EVENT TRIGGER %s DISABLE", pg.QuoteIdent(e.Name)),
		}
		if !may {
			f.Code, f.Severity = "event_trigger_not_allowed", answer.Blocker
			f.Detail = "only a superuser can make event triggers on the target"
			f.SQL = "DROP EVENT TRIGGER " + pg.QuoteIdent(e.Name)
			f.Remedy = f.SQL + " on the source, and let a superuser make it on the target after the move"
		}
		found = append(found, f)
	}
	for _, e := range target {
		if e.Disabled || p.Options.Resume { // the run that is continued may have made them
			continue
		}
		found = append(found, answer.Finding{
			Code: "target_event_trigger", Severity: answer.Warning, Object: e.Name,
			Detail: "runs on the DDL with which the schema is restored on the target",
			Remedy: fmt.Sprintf("ALTER EVENT TRIGGER %s DISABLE on the target until the restore has ended", pg.QuoteIdent(e.Name)),
			On:     answer.Target, SQL: fmt.Sprintf("ALTER EVENT TRIGGER %s DISABLE", pg.QuoteIdent(e.Name)),
		})
	}
	return found, nil
}

// eventTrigger is one that no extension brings; it does nothing while it is disabled.
type eventTrigger struct {
	Name     string
	Disabled bool
}

func eventTriggers(ctx context.Context, conn *pgx.Conn) ([]eventTrigger, error) {
	return inquiry.List[eventTrigger](ctx, conn, "event triggers", `
		SELECT evtname::text, evtenabled = 'D' FROM pg_event_trigger e
		WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e')
		ORDER BY 1`)
}

// mayMakeEventTriggers tells whether our role can make event triggers on the
// target. Neon lets the roles that its console makes.
func mayMakeEventTriggers(ctx context.Context, p *inquiry.Pair) (bool, error) {
	role, err := inquiry.CurrentRole(ctx, p.Target)
	if err != nil || role.Super {
		return role.Super, err
	}
	endpoint, err := inquiry.Setting(ctx, p.Target, "neon.endpoint_id")
	return endpoint != "", err
}

// LargeObjects says what becomes of the source's large objects, which no stream carries.
func LargeObjects(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	objects, err := inquiry.Value[int64](ctx, p.Source, "large objects", `SELECT count(*) FROM pg_largeobject_metadata`)
	if err != nil || objects == 0 || p.Options.Scope.SchemaOnly {
		return nil, err
	}
	if !p.Options.LargeObjects && !p.Options.Scope.Everything() { // pg_dump leaves them out as well
		return nil, nil
	}
	f := answer.Finding{Code: "large_objects", Severity: answer.Blocker, Object: "pg_largeobject"}
	switch {
	case !p.Options.LargeObjects:
		f.Detail = fmt.Sprintf("the source has %d large objects, which are copied only with --large-objects and never followed", objects)
		f.Remedy = "give --large-objects, move them into bytea columns, or remove those that nothing uses with vacuumlo"
	case p.Options.Mode == inquiry.Run:
		f.Severity = answer.Warning
		f.Detail = fmt.Sprintf("the source has %d large objects, which are copied as they are then: no stream carries what changes in them, and a change refuses the cutover", objects)
		f.Remedy = "stop the applications from changing large objects until the cutover, or move them into bytea columns; so that every change is seen: GRANT SELECT ON pg_catalog.pg_largeobject TO " +
			pg.QuoteIdent(p.Source.Config().User) + " on the source"
	default:
		return nil, nil
	}
	return []answer.Finding{f}, nil
}

// MaterialisedViews reports what happens to the contents of materialised views, which are the
// results of their queries: no stream carries their rows, and no rows can be written into one.
func MaterialisedViews(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.SchemaOnly || p.Options.Scope.DataOnly {
		return nil, nil
	}
	type view struct {
		Schema, Name string
		Read, Use    bool
	}
	views, err := inquiry.List[view](ctx, p.Source, "materialised views", `
		SELECT n.nspname::text, c.relname::text, has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(n.oid, 'USAGE')`+inquiry.FromTakenRelations+`
		AND c.relkind = 'm' AND c.relispopulated ORDER BY 1, 2`, p.Options.Scope.WithRows())
	return lists.Map(views, func(v view) answer.Finding {
		name := pg.Name{Schema: v.Schema, Name: v.Name}
		f := answer.Finding{Code: "matview", Severity: answer.Info, Object: name.Display(),
			Detail: "is filled on the target by its query: rows that the query no longer gives, because the view has not been refreshed for a long time, are not carried over",
			Remedy: fmt.Sprintf("REFRESH MATERIALIZED VIEW %s on the source before the copy, if both sides are to have the same rows", name)}
		if p.Options.Mode == inquiry.Run {
			f.Detail = "is filled on the target by its query, again whenever it is refreshed on the source, and never after the switch; its rows are compared, and status names a view whose rows differ, because it has not been refreshed for a long time or because its query gives different rows each time"
			f.Remedy = fmt.Sprintf("REFRESH MATERIALIZED VIEW %s on the source while the run follows, if status names it", name)
		}
		if p.Options.Mode == inquiry.Run && (!v.Read || !v.Use) {
			role := pg.QuoteIdent(p.Source.Config().User)
			var sql []string
			if !v.Use {
				sql = append(sql, "GRANT USAGE ON SCHEMA "+pg.QuoteIdent(v.Schema)+" TO "+role)
			}
			if !v.Read {
				sql = append(sql, "GRANT SELECT ON "+name.String()+" TO "+role)
			}
			f = answer.Finding{Code: "matview_not_compared", Severity: answer.Warning, Object: name.Display(),
				Detail: f.Detail + "; the role of --source may not read this one, so that its rows are not compared",
				Remedy: strings.Join(sql, "; "),
				On:     answer.Source, SQL: strings.Join(sql, "; ")}
		}
		return f
	}), err
}

// UnloggedTables names tables that no stream carries, and that Neon empties.
func UnloggedTables(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	type table struct{ Schema, Name string }
	tables, err := inquiry.List[table](ctx, p.Source, "unlogged tables", `
		SELECT n.nspname::text, c.relname::text`+inquiry.FromTakenRelations+`AND c.relkind = 'r' AND c.relpersistence = 'u' ORDER BY 1, 2`, p.Options.Scope.Relations())
	return lists.Map(tables, func(t table) answer.Finding {
		name := pg.Name{Schema: t.Schema, Name: t.Name}
		detail := "is unlogged: its changes are in no stream, so they are not followed"
		if p.Options.Mode == inquiry.Copy {
			detail = "is unlogged: Neon empties it whenever the compute restarts"
		}
		return answer.Finding{
			Code: "unlogged_table", Severity: answer.Warning, Object: name.Display(),
			Detail: detail,
			Remedy: fmt.Sprintf("ALTER TABLE %s SET LOGGED, if its rows matter", name),
			On:     answer.Source, SQL: fmt.Sprintf("ALTER TABLE %s SET LOGGED", name),
		}
	}), err
}
