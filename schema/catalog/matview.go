package catalog

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

const matViewsQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relispopulated,
	ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND ` + UserSchema + `
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
		WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid
		AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.deptype = 'e')
ORDER BY 2, 3`

// readsQuery says which view or materialised view reads which other one.
const readsQuery = `
SELECT DISTINCT w.ev_class, d.refobjid
FROM pg_catalog.pg_rewrite w
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
	AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> w.ev_class
JOIN pg_catalog.pg_class f ON f.oid = d.refobjid AND f.relkind IN ('v', 'm')
JOIN pg_catalog.pg_class c ON c.oid = w.ev_class AND c.relkind IN ('v', 'm')`

func (r *reader) matViews(ctx context.Context) error {
	var views []MatView
	err := each(ctx, r.conn, matViewsQuery, nil, func(row pgx.CollectableRow) error {
		var m MatView
		err := row.Scan(&m.OID, &m.Schema, &m.Rel, &m.Populated, &m.Columns)
		views = append(views, m)
		return err
	})
	if err != nil || len(views) == 0 {
		return err
	}
	reads := map[uint32][]uint32{}
	err = each(ctx, r.conn, readsQuery, nil, func(row pgx.CollectableRow) error {
		var view, read uint32
		err := row.Scan(&view, &read)
		reads[view] = append(reads[view], read)
		return err
	})
	r.db.MatViews = readOrder(views, reads)
	return err
}

// readOrder sorts materialised views so that each stands after those that it reads, by way of plain
// views too; otherwise they keep their order. What a function reads is not known to the catalog.
func readOrder(views []MatView, reads map[uint32][]uint32) []MatView {
	out := make([]MatView, 0, len(views))
	seen := map[uint32]bool{}
	var visit func(oid uint32)
	visit = func(oid uint32) {
		if seen[oid] {
			return
		}
		seen[oid] = true
		for _, read := range reads[oid] {
			visit(read)
		}
		if i := slices.IndexFunc(views, func(m MatView) bool { return m.OID == oid }); i >= 0 {
			out = append(out, views[i])
		}
	}
	for _, m := range views {
		visit(m.OID)
	}
	return out
}
