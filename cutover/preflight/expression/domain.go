package expression

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// domainUse is a constraint of a domain that calls functions which are not PostgreSQL's own.
type domainUse struct {
	domainConstraint
	Columns []column // that hold values of it
	// Nested is that its values are parts of others: PostgreSQL then cannot validate a constraint
	// later, so that it is asked of each row as that comes.
	Nested bool
}

// domainConstraint is what the catalog has of one.
type domainConstraint struct {
	OID                uint32
	Domain, Constraint string // as they are written in SQL
	Definition         string // CHECK (…)
	Expr, Base         string // of VALUE, and the type below all domains
	Valid              bool   // it is asked of no row that is moved otherwise
	Functions          []uint32
	Owner              string // of the domain
	Trusted            bool   // as of evaluated
}

type column struct {
	Relation, Name, Type string // as they are written in SQL
}

// readDomains lists the constraints.
func readDomains(ctx context.Context, p *inquiry.Pair) ([]domainUse, error) {
	found, err := inquiry.List[domainConstraint](ctx, p.Source, "constraints of domains", calledFunctions+`
		SELECT k.contypid, k.contypid::regtype::text, quote_ident(k.conname), pg_get_constraintdef(k.oid), pg_get_expr(k.conbin, 0),
			(WITH RECURSIVE b AS (SELECT t.typbasetype AS base, t.typtypmod AS mod FROM pg_type t WHERE t.oid = k.contypid
				UNION ALL SELECT t.typbasetype, t.typtypmod FROM b JOIN pg_type t ON t.oid = b.base WHERE t.typtype = 'd')
				SELECT format_type(b.base, b.mod) FROM b JOIN pg_type t ON t.oid = b.base WHERE t.typtype <> 'd'), k.convalidated,
			ARRAY(SELECT DISTINCT o.func FROM own o WHERE o.classid = 'pg_constraint'::regclass AND o.objid = k.oid ORDER BY 1),
			pg_get_userbyid(y.typowner)::text, `+trusts("y.typowner")+`
		FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace JOIN pg_type y ON y.oid = k.contypid
		WHERE k.contypid <> 0 AND k.contype = 'c' AND EXISTS (SELECT FROM own o WHERE o.classid = 'pg_constraint'::regclass AND o.objid = k.oid)
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = k.contypid AND d.deptype = 'e')
			AND`+inquiry.UserSchema+`ORDER BY 2, 3`)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	in, err := readContainers(ctx, p)
	if err != nil {
		return nil, err
	}
	var out []domainUse
	for _, c := range found {
		d := domainUse{domainConstraint: c, Nested: in.nested(c.OID, nil)}
		for _, x := range in {
			if x.Kind == inRelation && x.Rows && in.contains(x.Inner, c.OID, nil) {
				d.Columns = append(d.Columns, column{x.Relation, x.Column, x.Type})
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// container says that values of one type may hold some of another.
type container struct {
	Holder, Inner          uint32 // types; for an array, the inner type is that of its elements
	Kind                   string
	Array                  bool
	Rows, Children         bool // of a relation: it has rows that are moved, others inherit from it
	Relation, Column, Type string
}

// Kinds of containers.
const (
	inType     = "type" // composite, or a range
	inDomain   = "domain"
	inRelation = "relation"
)

type containers []container

func readContainers(ctx context.Context, p *inquiry.Pair) (containers, error) {
	return inquiry.List[container](ctx, p.Source, "uses of types", `
		WITH uses AS (
			SELECT c.reltype AS holder, a.atttypid AS inner_type, CASE c.relkind WHEN 'c' THEN 'type' ELSE 'relation' END AS kind, c.relkind IN ('r', 'p') AND NOT c.relispartition AND`+inquiry.OnlyTaken+`AS has_rows,
				EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r') AS children,
				c.oid::regclass::text AS rel, quote_ident(a.attname) AS col, format_type(a.atttypid, a.atttypmod) AS typ
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			WHERE c.relkind IN ('r', 'p', 'f', 'c') AND`+inquiry.UserSchema+`
			UNION ALL SELECT t.oid, t.typbasetype, 'domain', false, false, '', '', '' FROM pg_type t WHERE t.typtype = 'd'
			UNION ALL SELECT r.rngtypid, r.rngsubtype, 'type', false, false, '', '', '' FROM pg_range r
		)
		SELECT u.holder, CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END, u.kind, t.typcategory = 'A' AND t.typelem <> 0, u.has_rows, u.children, u.rel, u.col, u.typ
		FROM uses u JOIN pg_type t ON t.oid = u.inner_type ORDER BY u.rel, u.col, u.holder`, p.Options.Scope.WithRows())
}

// nested reports whether values of a type may be parts of others, as package schema decides
// when it takes a domain's constraints out.
func (in containers) nested(t uint32, known []uint32) bool {
	known = append(known, t)
	for _, x := range in {
		if x.Inner != t || slices.Contains(known, x.Holder) {
			continue
		}
		switch {
		case x.Array || x.Kind == inType, x.Kind == inDomain && in.nested(x.Holder, known):
			return true
		case x.Kind == inRelation && (x.Children || slices.ContainsFunc(in, func(y container) bool { return y.Inner == x.Holder })):
			return true
		}
	}
	return false
}

// contains reports whether values of one type may hold some of another, or are of it.
func (in containers) contains(t, inner uint32, known []uint32) bool {
	if t == inner {
		return true
	}
	known = append(known, t)
	return slices.ContainsFunc(in, func(x container) bool {
		return x.Holder == t && !slices.Contains(known, x.Inner) && in.contains(x.Inner, inner, known)
	})
}

// tryDomain reads the values of some columns again from their text, which evaluates the constraints
// of the domain.
func (c *expressionCheck) tryDomain(ctx context.Context, d domainUse) error {
	switch {
	case !d.Valid:
		return nil
	case !d.Trusted:
		c.notTrusted("domain "+d.Domain, d.Owner)
		return nil
	}
	for _, col := range d.Columns {
		e := evaluated{Kind: ofDomain, Name: d.Domain, Relation: col.Relation, Functions: d.Functions,
			Expr: col.Name + "::text::" + col.Type}
		got, err := c.trials.try(ctx, e, false)
		if err != nil {
			return err
		}
		switch {
		case got.own.missesName():
			return c.pathless(ctx, e, got.own)
		case got.own.Unseen:
			c.notSeen(e, got.own)
			return nil
		case len(got.others) > 0 && d.Nested:
			return c.nestedReads(ctx, d, col, got)
		}
	}
	return nil
}

// nestedReads names a constraint that is asked of each row as that comes.
func (c *expressionCheck) nestedReads(ctx context.Context, d domainUse, col column, got tried) error {
	// The value asks all constraints of the domain. One that reads nothing of no value, where
	// others do, is not the one.
	alone, anyAlone := false, false
	for _, x := range c.domains {
		if x.OID != d.OID {
			continue
		}
		one, err := c.trials.try(ctx, evaluated{Kind: ofDomain, Name: x.Domain, Relation: "(SELECT NULL::" + x.Base + " AS value) v", Expr: x.Expr}, false)
		if err != nil {
			return err
		}
		anyAlone = anyAlone || len(one.others) > 0
		alone = alone || x.Constraint == d.Constraint && len(one.others) > 0
	}
	if anyAlone && !alone {
		return nil
	}
	names := lists.Map(got.others, pg.Name.Display)
	domain := "ALTER DOMAIN " + d.Domain
	sql := fmt.Sprintf("%s DROP CONSTRAINT %s; %s ADD CONSTRAINT %s %s NOT VALID", domain, d.Constraint, domain, d.Constraint, d.Definition)
	c.reading = append(c.reading, answer.Finding{Code: "expression_reads_tables", Severity: answer.Blocker, Object: d.Domain + " " + d.Constraint,
		Detail: fmt.Sprintf("this constraint reads %s and is asked of each row of %s as it comes, when the rows of those may not be there: no server validates it later, since the domain is a part of other types",
			strings.Join(names, ", "), col.Relation),
		Remedy: "have it asked of new values alone, which then is so on both sides: " + sql, On: answer.Source, SQL: sql})
	return nil
}
