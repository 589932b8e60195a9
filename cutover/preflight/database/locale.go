package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/unconvertible"
)

type databaseLocale struct {
	Database, Role                             string // of the session
	Encoding, Collate, Ctype, Provider, Locale string
}

// libc is the provider of locales whose names are the operating system's.
const libc = "c"

// sorts says how texts sort.
func (l databaseLocale) sorts() string {
	switch l.Provider {
	case libc:
		return l.Collate + "/" + l.Ctype
	case "i":
		return l.Locale + " of ICU"
	}
	return l.Locale + " of PostgreSQL"
}

// sortsAs reports whether texts sort alike, by the names: a system writes those of an encoding in
// several ways.
func (l databaseLocale) sortsAs(o databaseLocale) bool {
	plain := func(s string) string {
		if s == "POSIX" {
			s = "C"
		}
		base, encoding, _ := strings.Cut(s, ".")
		return base + "." + strings.ReplaceAll(strings.ToLower(encoding), "-", "")
	}
	return l.Provider == o.Provider && l.Locale == o.Locale && plain(l.Collate) == plain(o.Collate) && plain(l.Ctype) == plain(o.Ctype)
}

// anotherDatabase says how the target gets a database with the source's encoding and locale.
func anotherDatabase(source, target databaseLocale) string {
	const suffix = "_like_source"
	name := strings.ToValidUTF8(target.Database[:min(len(target.Database), inquiry.MaxName-len(suffix))], "") + suffix
	sql := fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE template0 ENCODING %s LC_COLLATE %s LC_CTYPE %s", pg.QuoteIdent(name), pg.QuoteIdent(target.Role),
		pg.QuoteLiteral(source.Encoding), pg.QuoteLiteral(source.Collate), pg.QuoteLiteral(source.Ctype))
	switch source.Provider {
	case "i":
		sql += " LOCALE_PROVIDER icu ICU_LOCALE " + pg.QuoteLiteral(source.Locale)
	case "b":
		sql += " LOCALE_PROVIDER builtin BUILTIN_LOCALE " + pg.QuoteLiteral(source.Locale)
	}
	return "make another database on the target and give that one to --target: " + sql
}

func locale(ctx context.Context, conn *pgx.Conn) (databaseLocale, error) {
	return inquiry.One[databaseLocale](ctx, conn, "database locale", `
		SELECT current_database()::text, current_user::text, pg_encoding_to_char(encoding), coalesce(datcollate::text, ''), coalesce(datctype::text, ''),
			coalesce(to_jsonb(d)->>'datlocprovider', '`+libc+`'), coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale', '')
		FROM pg_database d WHERE datname = current_database()`)
}

const (
	unicode        = "UTF8"
	everyByteValid = "LATIN1"
)

// Encodings compares the encodings of both databases, and names rows that a copy could not convert.
func Encodings(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, target, err := inquiry.Both(ctx, p, locale)
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
		Code: "encoding_differs", Severity: answer.Blocker, Object: "target",
		Detail: fmt.Sprintf("the source's database has encoding %s, the target's %s", source.Encoding, target.Encoding),
		Remedy: anotherDatabase(source, target),
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

// Collations compares how texts sort on both sides, and names columns whose collation the target
// lacks.
func Collations(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, target, err := inquiry.Both(ctx, p, locale)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	if !source.sortsAs(target) {
		another := "or " + anotherDatabase(source, target)
		if source.Encoding != target.Encoding { // which is reported with the same statement
			another = "or use the database that the finding on encodings asks for: it also sorts as the source's does"
		}
		found = append(found, answer.Finding{
			Code: "collation_differs", Severity: answer.Warning, Object: "target",
			Detail: fmt.Sprintf("text sorts as %s at the source and as %s at the target: ORDER BY and range partitions on text may differ", source.sorts(), target.sorts()),
			Remedy: "give columns whose order matters a COLLATE of their own, " + another,
		})
	}
	missing, err := missingCollations(ctx, p)
	return append(found, missing...), err
}

// missingCollations finds columns that name a collation of the server which the
// target lacks. Collations that the user made are in the dump.
func missingCollations(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	type column struct{ Schema, Relation, Kind, Column, Type, Collation string }
	used, err := inquiry.List[column](ctx, p.Source, "collations of columns", `
		SELECT n.nspname::text, c.relname::text, c.relkind::text, a.attname::text, format_type(a.atttypid, a.atttypmod), co.collname::text
		FROM pg_attribute a
		JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm', 'f')
		JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_type t ON t.oid = a.atttypid
		JOIN pg_collation co ON co.oid = a.attcollation AND co.collnamespace = 'pg_catalog'::regnamespace
		WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attcollation <> t.typcollation
			AND`+inquiry.UserSchema+`AND`+inquiry.NotOfExtension+`AND`+inquiry.OnlyTaken+`ORDER BY 1, 2, a.attnum`, p.Options.Scope.Relations())
	if err != nil || len(used) == 0 {
		return nil, err
	}
	const collations = `
		SELECT collname::text FROM pg_collation
		WHERE collnamespace = 'pg_catalog'::regnamespace
			AND collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))`
	has, err := inquiry.Column[string](ctx, p.Target, "collations of the target", collations)
	if err != nil {
		return nil, err
	}
	own, err := inquiry.Column[string](ctx, p.Source, "collations of the source", collations)
	if err != nil {
		return nil, err
	}
	known := lists.Set(has)
	both := lists.Set(lists.Filter(own, func(n string) bool { return known[n] }))
	var found []answer.Finding
	for _, u := range used {
		if known[u.Collation] {
			continue
		}
		table, instead := pg.Name{Schema: u.Schema, Name: u.Relation}, pg.QuoteIdent(standIn(u.Collation, both))
		f := answer.Finding{
			Code: "collation_missing", Severity: answer.Blocker, Object: table.Display(),
			Detail: fmt.Sprintf("column %s has collation %s, which the target does not have", u.Column, u.Collation),
		}
		if u.Kind == "m" {
			f.Remedy = fmt.Sprintf("make the materialised view again on the source with a collation that both sides have, such as COLLATE %s", instead)
		} else {
			f.On, f.SQL = answer.Source, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s COLLATE %s", table, pg.QuoteIdent(u.Column), u.Type, instead)
			f.Remedy = f.SQL + " on the source, or with another collation that both sides have: its order changes"
		}
		found = append(found, f)
	}
	return found, nil
}

// standIn names a collation that both sides have, as near to one of the operating system's as
// there is.
func standIn(collation string, both map[string]bool) string {
	base, _, _ := strings.Cut(collation, ".")
	language, _, _ := strings.Cut(base, "_")
	for _, c := range []string{strings.ReplaceAll(base, "_", "-") + "-x-icu", language + "-x-icu", "und-x-icu"} {
		if both[c] && collation != "POSIX" {
			return c
		}
	}
	return "C"
}
