package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/unconvertible"
)

const (
	unicode        = "UTF8"
	everyByteValid = "LATIN1"
)

// Encodings compares the encodings of both databases, and names rows that a copy could not convert.
func Encodings(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, err := locale(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	target, err := locale(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	switch {
	case source.Encoding == target.Encoding:
		return nil, nil
	case target.Encoding == unicode && p.Options.Mode == inquiry.Copy:
		return converted(ctx, p, source, target)
	}
	f := answer.Finding{
		Code:     "encoding_differs",
		Severity: answer.Blocker,
		Object:   "target",
		Detail:   fmt.Sprintf("the source's database has encoding %s, the target's %s", source.Encoding, target.Encoding),
		Remedy:   anotherDatabase(source, target),
	}
	if target.Encoding == unicode {
		f.Detail += ": a run compares and follows both byte by byte"
		f.Remedy += "; crossfade copy converts, as pg_dump does, while nobody writes"
	}
	return []answer.Finding{f}, nil
}

// converted says what a copy from another encoding to UTF8 does, and names rows that
// cannot be converted.
func converted(ctx context.Context, p *inquiry.Pair, source, target databaseLocale) ([]answer.Finding, error) {
	from := source.Encoding
	found := []answer.Finding{{
		Code: "encoding_converted", Severity: answer.Warning, Object: "source",
		Detail: fmt.Sprintf("the source's database has encoding %s: what is copied is converted to UTF8, so that lengths in bytes, hashes and the order of texts may differ", from),
		Remedy: "see that nothing in the application counts on bytes: octet_length, md5, convert_to, a client_encoding of SQL_ASCII; or " + anotherDatabase(source, target),
	}}
	if from == everyByteValid {
		return found, nil
	}
	type table struct{ Schema, Name string }
	tables, err := inquiry.List[table](ctx, p.Source, "tables", `
		SELECT n.nspname::text, c.relname::text`+inquiry.FromTakenRelations+`AND c.relkind = 'r' AND c.relpersistence <> 't'
			AND has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
		ORDER BY pg_relation_size(c.oid), 1, 2`, p.Options.Scope.WithRows())
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(p.Options.ConvertFor)
	for i, t := range tables {
		name := pg.Name{Schema: t.Schema, Name: t.Name}
		u, err := findUnconvertible(ctx, p, name, end)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			found = append(found, answer.Finding{
				Code: "encoding_not_looked_at", Severity: answer.Warning, Object: name.Display(),
				Detail: fmt.Sprintf("whether its rows can be converted from %s to UTF8 was not looked at, nor those of %d larger tables: that takes longer than %v", from, len(tables)-i-1, p.Options.ConvertFor),
				Remedy: "begin the copy: it stops at a row that cannot be converted, names it, and continues once the row is corrected",
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

// findUnconvertible scans one table until end. Reaching that ends the session, so the scan has a
// session of its own.
func findUnconvertible(ctx context.Context, p *inquiry.Pair, name pg.Name, end time.Time) (*unconvertible.Rows, error) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, p.Source.Config())
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return unconvertible.Find(ctx, conn, name, unicode)
}

func unconvertibleFinding(u unconvertible.Rows) answer.Finding {
	f := answer.Finding{
		Code: "encoding_invalid", Severity: answer.Blocker, Object: u.Table.Display(),
		Detail: fmt.Sprintf("rows with bytes that are no characters of UTF8: %d, the first of them %s", u.Count, u.Row()),
		Remedy: u.Remedy(), SQL: u.Statement(),
	}
	if f.SQL != "" {
		f.On = answer.Source
	}
	return f
}
