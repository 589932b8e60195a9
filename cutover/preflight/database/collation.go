package database

import (
	"context"
	"fmt"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// Collations compares how texts sort on both sides, and names columns whose collation the target
// lacks.
func Collations(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	source, err := locale(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	target, err := locale(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	if !source.sortsAs(target) {
		another := "or " + anotherDatabase(source, target)
		if source.Encoding != target.Encoding { // which is reported with the same statement
			another = "or take the database that is to be made for the encoding of the source, which sorts as that does too"
		}
		found = append(found, answer.Finding{
			Code:     "collation_differs",
			Severity: answer.Warning,
			Object:   "target",
			Detail:   fmt.Sprintf("text sorts as %s at the source and as %s at the target: ORDER BY and range partitions on text may differ", source.sorts(), target.sorts()),
			Remedy:   "give columns whose order matters a COLLATE of their own, " + another,
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
	type name struct{ Name string }
	const collations = `
		SELECT collname::text FROM pg_collation
		WHERE collnamespace = 'pg_catalog'::regnamespace
			AND collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))`
	has, err := inquiry.List[name](ctx, p.Target, "collations of the target", collations)
	if err != nil {
		return nil, err
	}
	own, err := inquiry.List[name](ctx, p.Source, "collations of the source", collations)
	if err != nil {
		return nil, err
	}
	known, both := map[string]bool{}, map[string]bool{}
	for _, n := range has {
		known[n.Name] = true
	}
	for _, n := range own {
		both[n.Name] = known[n.Name]
	}
	var found []answer.Finding
	for _, u := range used {
		if known[u.Collation] {
			continue
		}
		table, instead := pg.Name{Schema: u.Schema, Name: u.Relation}, pg.QuoteIdent(standIn(u.Collation, both))
		f := answer.Finding{
			Code:     "collation_missing",
			Severity: answer.Blocker,
			Object:   table.Display(),
			Detail:   fmt.Sprintf("column %s has collation %s, which the target does not have", u.Column, u.Collation),
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
