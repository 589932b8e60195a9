package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
)

const (
	unicode        = "UTF8"
	everyByteValid = "LATIN1"
	// convertTimeout bounds how long rows are looked through, well below
	// CheckTimeout. It is enough for some gigabytes.
	convertTimeout = 15 * time.Second
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
	switch {
	case source.Encoding == target.Encoding:
		return nil, nil
	case target.Encoding == unicode && p.opts.Mode == Copy:
		return p.converted(ctx, source.Encoding)
	}
	f := Finding{
		Code:     "encoding_differs",
		Severity: Blocker,
		Object:   "target",
		Detail:   fmt.Sprintf("the source's database has encoding %s, the target's %s", source.Encoding, target.Encoding),
		Remedy:   fmt.Sprintf("use a target database made with ENCODING '%s', or convert the source first", source.Encoding),
	}
	if target.Encoding == unicode {
		f.Detail += ": a run compares and follows both byte by byte"
		f.Remedy += "; crossfade copy converts, as pg_dump does, while nobody writes"
	}
	return []Finding{f}, nil
}

// converted says what a copy from another encoding to UTF8 does, and names rows that
// cannot be converted.
func (p *Preflight) converted(ctx context.Context, from string) ([]Finding, error) {
	found := []Finding{{
		Code: "encoding_converted", Severity: Warning, Object: "source",
		Detail: fmt.Sprintf("the source's database has encoding %s: what is copied is converted to UTF8, so that lengths in bytes, hashes and the order of texts may differ", from),
		Remedy: "see that nothing in the application counts on bytes: octet_length, md5, convert_to, a client_encoding of SQL_ASCII",
	}}
	if from == everyByteValid {
		return found, nil
	}
	type table struct{ Schema, Name string }
	tables, err := list[table](ctx, p.source, "tables", `
		SELECT n.nspname::text, c.relname::text`+fromTakenRelations+`AND c.relkind = 'r' AND c.relpersistence <> 't'
			AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
		ORDER BY pg_relation_size(c.oid), 1, 2`, p.opts.Scope.withRows())
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(convertTimeout)
	for i, t := range tables {
		name := pg.Name{Schema: t.Schema, Name: t.Name}
		u, err := p.unconvertible(ctx, name, end)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			found = append(found, Finding{
				Code: "encoding_not_looked_at", Severity: Warning, Object: name.Display(),
				Detail: fmt.Sprintf("whether its rows can be converted from %s to UTF8 was not looked at, nor those of %d larger tables: that takes longer than %v", from, len(tables)-i-1, convertTimeout),
				Remedy: "begin the copy: it stops at a row that cannot be converted, names it, and goes on once the row is corrected",
			})
			break
		}
		if err != nil {
			return nil, err
		}
		if u != nil {
			found = append(found, unconvertibleFinding(*u))
		}
	}
	return found, nil
}

// unconvertible looks at one table until end. The session is lost where that comes first,
// so the look has one of its own.
func (p *Preflight) unconvertible(ctx context.Context, name pg.Name, end time.Time) (*pg.Unconvertible, error) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, p.source.Config())
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return pg.FindUnconvertible(ctx, conn, name, unicode)
}

func unconvertibleFinding(u pg.Unconvertible) Finding {
	f := Finding{
		Code: "encoding_invalid", Severity: Blocker, Object: u.Table.Display(),
		Detail: fmt.Sprintf("rows with bytes that are no characters of UTF8: %d, the first of them %s", u.Count, u.Row()),
		Remedy: u.Remedy(), SQL: u.Statement(),
	}
	if f.SQL != "" {
		f.On = Source
	}
	return f
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
			AND`+userSchema+`AND`+notOfExtension+`AND`+onlyTaken+`ORDER BY 1, a.attnum`, p.opts.Scope.relations())
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
