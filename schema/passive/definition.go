package passive

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// finder fills a work from the live catalog.
type finder struct {
	conn    *pgx.Conn
	cfg     Config
	role    role
	replica bool
	db      *catalog.Database
	work    *work
}

// definitions finds what has to be made again: foreign keys and check constraints, and identity
// columns, whose kind is changed. The plan's own decision says how they come back.
func (f finder) definitions(ctx context.Context) error {
	var entries []archive.Entry
	comments := map[uint32]plan.Statement{} // by oid of the foreign key
	if !f.replica {
		of, err := f.commentsOf(ctx)
		if err != nil {
			return err
		}
		for _, k := range f.keys() {
			e := f.key(k)
			entries = append(entries, e)
			if text, ok := of[k.OID]; ok {
				comments[k.OID] = comment(e.Schema, e.Tag, "CONSTRAINT "+pg.QuoteIdent(k.Name)+" ON "+f.db.Relation(k.Table).Name().String(), text)
			}
		}
	}
	checks, err := f.checks(ctx)
	if err != nil {
		return err
	}
	entries = append(entries, checks.entries...)
	planned := &plan.Plan{}
	for i := range entries {
		planned.Decision = append(planned.Decision, &entries[i])
	}
	sql, err := planned.DecisionSQL(plan.DecisionConfig{Source: f.db, Target: f.cfg.Version / 10000, Path: f.cfg.Path})
	if err != nil {
		return err
	}
	for _, s := range sql.Decide {
		if s.Kind == "SETTING" || s.Kind == "ITEM" { // Restoration has its own; nothing here is an item of an archive
			continue
		}
		f.work.decide = append(f.work.decide, s)
		if c, ok := comments[s.Key]; ok {
			f.work.decide = append(f.work.decide, c)
		}
	}
	for _, s := range sql.After {
		if s.Kind == "ITEM" {
			continue
		}
		f.work.after = append(f.work.after, s)
		if c, ok := comments[s.Key]; ok && s.Kind == kindKey {
			f.work.after = append(f.work.after, c)
		}
	}
	f.work.decide = append(f.work.decide, checks.comments...)
	for _, s := range plan.IdentityByDefault(f.db) {
		f.work.off = append(f.work.off, s.SQL)
		f.work.lock(true, f.tree(f.db.Lookup(pg.Name{Schema: s.Schema, Name: s.Name}))...)
	}
	return nil
}

// kindKey is pg_dump's word for a foreign key.
const kindKey = "FK CONSTRAINT"

// table returns a table of the application, nil for another relation.
func (f finder) table(oid uint32) *catalog.Relation {
	if r := f.db.Relation(oid); r != nil && r.Configuration.Extension == "" {
		return r
	}
	return nil
}

// tree returns a table and what is below it: its partitions, or its children.
func (f finder) tree(r *catalog.Relation) []*catalog.Relation {
	out := []*catalog.Relation{r}
	for _, c := range f.db.Relations {
		if c.Parent == r.OID || slices.Contains(c.Inherits, r.OID) {
			out = append(out, f.tree(c)...)
		}
	}
	return out
}

// keys are the foreign keys that have to be dropped: the copies of a key on partitions go with it.
// One that is not enforced does not act.
func (f finder) keys() []*catalog.ForeignKey {
	var out []*catalog.ForeignKey
	for i := range f.db.ForeignKeys {
		k := &f.db.ForeignKeys[i]
		if k.Inherited == 0 && f.table(k.Table) != nil && !strings.HasSuffix(k.Definition, " NOT ENFORCED") {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *catalog.ForeignKey) int {
		s, t := f.table(a.Table), f.table(b.Table)
		return cmp.Or(strings.Compare(s.Schema, t.Schema), strings.Compare(s.Rel, t.Rel), strings.Compare(a.Name, b.Name))
	})
	return out
}

// key drops a foreign key, and makes of it an entry as pg_dump would.
func (f finder) key(k *catalog.ForeignKey) archive.Entry {
	table := f.table(k.Table)
	only := "ONLY "
	if table.Kind == catalog.KindPartitioned { // whose keys PostgreSQL does not make so
		only = ""
	}
	f.work.lock(true, f.tree(table)...)
	if other := f.db.Relation(k.Referenced); other != nil {
		f.work.lock(true, f.tree(other)...)
	}
	f.work.off = append(f.work.off, "ALTER TABLE "+only+table.Name().String()+" DROP CONSTRAINT "+pg.QuoteIdent(k.Name))
	return archive.Entry{Kind: kindKey, OID: k.OID, Schema: table.Schema, Tag: table.Rel + " " + k.Name,
		Definition: "ALTER TABLE " + only + table.Name().String() + "\n    ADD CONSTRAINT " + pg.QuoteIdent(k.Name) + " " + k.Definition + ";\n"}
}

// commentsOf reads the comments on foreign keys.
func (f finder) commentsOf(ctx context.Context) (map[uint32]string, error) {
	return pg.SelectMap(ctx, f.conn, func(oid *uint32, text *string) []any { return []any{oid, text} },
		`SELECT d.objoid, d.description FROM pg_catalog.pg_description d JOIN pg_catalog.pg_constraint k ON k.oid = d.objoid AND k.contype = 'f'
		WHERE d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass`)
}

func comment(schema, name, on, text string) plan.Statement {
	return plan.Statement{Kind: "COMMENT", Schema: schema, Name: name, SQL: "COMMENT ON " + on + " IS " + pg.QuoteLiteral(text)}
}

// checkConstraint is a check constraint of a table, or of a domain.
type checkConstraint struct {
	table                    uint32 // 0 for a domain's
	schema, of, name         string
	definition, text         string // text: its comment
	depth                    int    // of a table: how many stand above it
	enforced, local, comment bool
}

const checksQuery = `
SELECT k.conrelid, n.nspname::text, coalesce(c.relname, t.typname)::text, k.conname::text, pg_catalog.pg_get_constraintdef(k.oid), coalesce(d.description, ''), d.objoid IS NOT NULL,
	coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::pg_catalog.bool, true), k.conislocal
FROM pg_catalog.pg_constraint k
LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
LEFT JOIN pg_catalog.pg_type t ON t.oid = k.contypid
JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(c.relnamespace, t.typnamespace)
LEFT JOIN pg_catalog.pg_description d ON d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objoid = k.oid
WHERE k.contype = 'c' AND pg_catalog.quote_ident(k.conname) = ANY (coalesce($1::pg_catalog.text[], '{}')) AND ` + catalog.UserSchema + `
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND e.objid = t.oid AND e.deptype = 'e')
ORDER BY n.nspname, 3, k.conname`

type checks struct {
	entries  []archive.Entry
	comments []plan.Statement
}

// checks drops the check constraints that depend on more than the row. A table's goes before its
// children's, which keep what is also their own until then.
func (f finder) checks(ctx context.Context) (out checks, err error) {
	if len(f.cfg.Checks) == 0 {
		return out, nil
	}
	found, err := pg.Select(ctx, f.conn, func(c *checkConstraint) []any {
		return []any{&c.table, &c.schema, &c.of, &c.name, &c.definition, &c.text, &c.comment, &c.enforced, &c.local}
	}, checksQuery, f.cfg.Checks)
	if err != nil {
		return out, err
	}
	found = slices.DeleteFunc(found, func(c checkConstraint) bool {
		return !c.enforced || !c.local || c.table != 0 && f.table(c.table) == nil
	})
	for i, c := range found {
		if c.table != 0 {
			found[i].depth = f.depth(f.table(c.table))
		}
	}
	slices.SortStableFunc(found, func(a, b checkConstraint) int { return cmp.Compare(a.depth, b.depth) })
	for _, c := range found {
		kind, on := "DOMAIN", "DOMAIN "
		if c.table != 0 {
			kind, on = "TABLE", ""
			f.work.lock(true, f.tree(f.table(c.table))...)
		}
		of, name := pg.Name{Schema: c.schema, Name: c.of}.String(), pg.QuoteIdent(c.name)
		f.work.off = append(f.work.off, "ALTER "+kind+" "+of+" DROP CONSTRAINT "+name)
		e := archive.Entry{Kind: "CHECK CONSTRAINT", Schema: c.schema, Tag: c.of + " " + c.name,
			Definition: "ALTER " + kind + " " + of + "\n    ADD CONSTRAINT " + name + " " + c.definition + ";\n"}
		out.entries = append(out.entries, e)
		if c.comment {
			out.comments = append(out.comments, comment(c.schema, e.Tag, "CONSTRAINT "+name+" ON "+on+of, c.text))
		}
	}
	return out, nil
}

// depth is how many generations of tables stand above one.
func (f finder) depth(r *catalog.Relation) int {
	depth := 0
	for _, oid := range append(slices.Clone(r.Inherits), r.Parent) {
		if up := f.db.Relation(oid); up != nil {
			depth = max(depth, 1+f.depth(up))
		}
	}
	return depth
}

// rowSecurity takes FORCE off where it would bind the role, which writes rows that no policy
// concerns. Other roles remain bound.
func (f finder) rowSecurity(context.Context) error {
	for _, r := range f.db.Relations {
		if f.role.unbound || !r.RowSecurity.Forced {
			continue
		}
		f.work.lock(true, r)
		f.work.off = append(f.work.off, "ALTER TABLE ONLY "+r.Name().String()+" NO FORCE ROW LEVEL SECURITY")
		f.work.decide = append(f.work.decide, plan.Statement{Kind: "ROW SECURITY", Schema: r.Schema, Name: r.Rel,
			SQL: "ALTER TABLE ONLY " + r.Name().String() + " FORCE ROW LEVEL SECURITY"})
	}
	return nil
}
