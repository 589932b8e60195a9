package catalog

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

const extensionsQuery = `
SELECT e.oid, e.extname::text, e.extversion, n.nspname::text,
	c.oid, cn.nspname::text, c.relname::text, c.relkind::text, k.i IS NOT NULL, coalesce(e.extcondition[k.i], '')
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
	AND d.deptype = 'e' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_class c ON c.oid = d.objid
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
LEFT JOIN LATERAL pg_catalog.unnest(e.extconfig) WITH ORDINALITY AS k (oid, i) ON k.oid = c.oid
ORDER BY e.extname, cn.nspname, c.relname`

func (r *reader) extensions(ctx context.Context) error {
	return each(ctx, r.conn, extensionsQuery, nil, func(row pgx.CollectableRow) error {
		var x Extension
		var m Member
		var oid *uint32
		var nsp, rel, kind *string
		if err := row.Scan(&x.OID, &x.Name, &x.Version, &x.Schema, &oid, &nsp, &rel, &kind, &m.Config, &m.Condition); err != nil {
			return err
		}
		if n := len(r.db.Extensions); n == 0 || r.db.Extensions[n-1].OID != x.OID {
			r.db.Extensions = append(r.db.Extensions, x)
		}
		if oid != nil && nsp != nil && rel != nil && kind != nil {
			m.OID, m.Name.Schema, m.Name.Name, m.Kind = *oid, *nsp, *rel, (*kind)[0]
			last := &r.db.Extensions[len(r.db.Extensions)-1]
			last.Members = append(last.Members, m)
		}
		return nil
	})
}

const sequencesQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, coalesce(d.refobjid, 0), coalesce(a.attname::text, ''), coalesce(d.deptype = 'i', false),
	pg_catalog.format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
	coalesce(x.extname::text, '')
FROM pg_catalog.pg_sequence s
JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
	AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_catalog.pg_extension x ON c.oid = ANY (x.extconfig)
WHERE c.relpersistence <> 't' AND (x.oid IS NOT NULL OR ` + UserSchema + `)
	AND (x.oid IS NOT NULL OR ` + OfNoExtension + `)
ORDER BY 2, 3`

func (r *reader) sequences(ctx context.Context) error {
	return list(ctx, r, &r.db.Sequences, func(s *Sequence) []any {
		return []any{&s.OID, &s.Schema, &s.Rel, &s.Owner, &s.OwnerColumn, &s.Identity,
			&s.Type, &s.Start, &s.Increment, &s.Min, &s.Max, &s.Cache, &s.Cycle, &s.Extension}
	}, sequencesQuery)
}

// foreignKeysQuery leaves out what PostgreSQL made per partition of the
// referenced table: only the referencing side of a key is the user's.
const foreignKeysQuery = `
SELECT k.oid, k.conname::text, k.conrelid, k.confrelid, k.conparentid, k.convalidated, k.condeferrable, k.condeferred,
	pg_catalog.pg_get_constraintdef(k.oid), k.confmatchtype = 'f',
	ARRAY(SELECT 'OPERATOR(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
		FROM pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS u (n, i) JOIN pg_catalog.pg_operator o ON o.oid = u.n
		JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace ORDER BY u.i),
	ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (n, i)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.i),
	ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (n, i)
		JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.i)
FROM pg_catalog.pg_constraint k
LEFT JOIN pg_catalog.pg_constraint p ON p.oid = k.conparentid
WHERE k.contype = 'f' AND k.conrelid = ANY ($1::pg_catalog.oid[])
	AND (p.oid IS NULL OR p.conrelid <> k.conrelid AND p.confrelid = k.confrelid)
ORDER BY k.conrelid, k.conname`

func (r *reader) foreignKeys(ctx context.Context) error {
	return list(ctx, r, &r.db.ForeignKeys, func(k *ForeignKey) []any {
		return []any{&k.OID, &k.Name, &k.Table, &k.Referenced, &k.Inherited, &k.Validated, &k.Deferrable, &k.Deferred,
			&k.Definition, &k.Full, &k.Operators, &k.Columns, &k.RefColumns}
	}, foreignKeysQuery, r.oids())
}

const triggersQuery = `
SELECT t.oid, t.tgrelid, t.tgname::text, t.tgenabled::text, t.tgconstraint <> 0,
	coalesce((pg_catalog.to_jsonb(t) ->> 'tgparentid')::pg_catalog.oid, 0) <> 0
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND t.tgname <> '` + OwnTrigger + `' AND ` + UserSchema + `
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid IN (t.oid, c.oid)
		AND e.classid IN ('pg_catalog.pg_trigger'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass))
ORDER BY t.tgrelid, t.tgname`

func (r *reader) triggers(ctx context.Context) error {
	return list(ctx, r, &r.db.Triggers, func(t *Trigger) []any {
		return []any{&t.OID, &t.Table, &t.Name, (*letter)(&t.Enabled), &t.Constraint, &t.Inherited}
	}, triggersQuery)
}

const rulesQuery = `
SELECT w.oid, w.ev_class, w.rulename::text, w.ev_enabled::text, w.ev_type::text, w.is_instead
FROM pg_catalog.pg_rewrite w
JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE w.rulename <> '_RETURN' AND ` + UserSchema + `
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.deptype = 'e' AND e.objid IN (w.oid, c.oid)
		AND e.classid IN ('pg_catalog.pg_rewrite'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass))
ORDER BY w.ev_class, w.rulename`

func (r *reader) rules(ctx context.Context) error {
	return list(ctx, r, &r.db.Rules, func(w *Rule) []any {
		return []any{&w.OID, &w.Table, &w.Name, (*letter)(&w.Enabled), (*letter)(&w.Event), &w.Instead}
	}, rulesQuery)
}

func (r *reader) publications(ctx context.Context) error {
	return list(ctx, r, &r.db.Publications, itself, `SELECT pubname::text FROM pg_catalog.pg_publication WHERE pubname <> 'crossfade' ORDER BY 1`)
}

func (r *reader) subscriptions(ctx context.Context) error {
	return list(ctx, r, &r.db.Subscriptions, itself, `SELECT s.subname::text FROM pg_catalog.pg_subscription s
		JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = pg_catalog.current_database() ORDER BY 1`)
}

func (r *reader) invalidIndexes(ctx context.Context) error {
	return list(ctx, r, &r.db.InvalidIndexes, nameOf, `SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_index i
		JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE NOT (i.indisvalid AND i.indisready) AND c.relkind = 'i' AND `+UserSchema+` ORDER BY 1, 2`)
}

func (r *reader) largeObjects(ctx context.Context) error {
	return r.conn.QueryRow(ctx, `SELECT pg_catalog.count(*) FROM (SELECT FROM pg_catalog.pg_largeobject_metadata LIMIT $1) l`,
		MaxLargeObjects).Scan(&r.db.LargeObjects)
}

const matViewsQuery = `
SELECT c.oid, n.nspname::text, c.relname::text, c.relispopulated,
	ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND ` + UserSchema + ` AND ` + OfNoExtension + `
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
	err := list(ctx, r, &views, func(m *MatView) []any { return []any{&m.OID, &m.Schema, &m.Rel, &m.Populated, &m.Columns} }, matViewsQuery)
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
