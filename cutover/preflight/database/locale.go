package database

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
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
