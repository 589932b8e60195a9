package database

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
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
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, o := range there {
		found = append(found, answer.Finding{
			Code: "backend_numbers", Severity: answer.Warning, Object: o.Name,
			Detail: fmt.Sprintf("the %s names backends by their numbers (pg_terminate_backend, pg_cancel_backend, pg_stat_activity.pid); one that was kept from before the cutover "+
				"belongs to no backend of the target, or to another one", o.What),
			Remedy: "do not keep numbers of backends in tables, and do not pass them to it, across the cutover: let it find them in pg_stat_activity each time, for example by application_name",
		})
	}
	return found, nil
}
