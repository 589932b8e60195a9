package preflight

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

type databaseLocale struct {
	Encoding, Collate, Ctype, Provider string
}

func locale(ctx context.Context, conn *pgx.Conn) (databaseLocale, error) {
	return one[databaseLocale](ctx, conn, "database locale", `
		SELECT pg_encoding_to_char(encoding), coalesce(datcollate::text, ''), coalesce(datctype::text, ''),
			coalesce(to_jsonb(d)->>'datlocprovider', 'c')
		FROM pg_database d WHERE datname = current_database()`)
}

func (p *Preflight) checkEncodings(ctx context.Context) ([]Finding, error) {
	source, err := locale(ctx, p.source)
	if err != nil {
		return nil, err
	}
	target, err := locale(ctx, p.target)
	if err != nil {
		return nil, err
	}
	if source.Encoding == target.Encoding {
		return nil, nil
	}
	return []Finding{{
		Code:     "encoding_differs",
		Severity: Blocker,
		Object:   "target",
		Detail:   fmt.Sprintf("the source's database has encoding %s, the target's %s", source.Encoding, target.Encoding),
		Remedy:   fmt.Sprintf("use a target database made with ENCODING '%s', or convert the source first", source.Encoding),
	}}, nil
}

func (p *Preflight) checkCollations(ctx context.Context) ([]Finding, error) {
	source, err := locale(ctx, p.source)
	if err != nil {
		return nil, err
	}
	target, err := locale(ctx, p.target)
	if err != nil {
		return nil, err
	}
	var found []Finding
	if source.Collate != target.Collate || source.Ctype != target.Ctype || source.Provider != target.Provider {
		found = append(found, Finding{
			Code:     "collation_differs",
			Severity: Warning,
			Object:   "target",
			Detail: fmt.Sprintf("text sorts as %s/%s at the source and as %s/%s at the target: ORDER BY and range partitions on text may differ",
				source.Collate, source.Ctype, target.Collate, target.Ctype),
			Remedy: "give columns whose order matters a COLLATE of their own, or make the target's database with the source's locale",
		})
	}
	missing, err := p.missingCollations(ctx)
	return append(found, missing...), err
}

// missingCollations finds columns that name a collation of the server which the
// target lacks. Collations that the user made are in the dump.
func (p *Preflight) missingCollations(ctx context.Context) ([]Finding, error) {
	type column struct{ Relation, Column, Collation string }
	used, err := list[column](ctx, p.source, "collations of columns", `
		SELECT n.nspname || '.' || c.relname, a.attname::text, co.collname::text
		FROM pg_attribute a
		JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm', 'f')
		JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_type t ON t.oid = a.atttypid
		JOIN pg_collation co ON co.oid = a.attcollation AND co.collnamespace = 'pg_catalog'::regnamespace
		WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attcollation <> t.typcollation
			AND`+userSchema+`AND`+notOfExtension+`ORDER BY 1, a.attnum`)
	if err != nil || len(used) == 0 {
		return nil, err
	}
	type name struct{ Name string }
	has, err := list[name](ctx, p.target, "collations of the target", `
		SELECT collname::text FROM pg_collation
		WHERE collnamespace = 'pg_catalog'::regnamespace
			AND collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))`)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, n := range has {
		known[n.Name] = true
	}
	var found []Finding
	for _, u := range used {
		if known[u.Collation] {
			continue
		}
		found = append(found, Finding{
			Code:     "collation_missing",
			Severity: Blocker,
			Object:   u.Relation,
			Detail:   fmt.Sprintf("column %s has collation %s, which the target does not have", u.Column, u.Collation),
			Remedy:   "give the column a collation that both sides have, such as one of ICU",
		})
	}
	return found, nil
}
