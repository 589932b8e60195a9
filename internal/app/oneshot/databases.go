package oneshot

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/options"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// platformDatabases belong to hosting platforms, and hold nothing of the user's.
var platformDatabases = []string{"rdsadmin", "cloudsqladmin", "alloydbadmin", "alloydbmetadata", "azure_maintenance", "azure_sys"}

// neonDatabase is the database that Neon keeps for itself.
const neonDatabase = "postgres"

// sourceDatabase is a database of the source's server.
type sourceDatabase struct {
	Name                    string
	MayConnect              bool
	Encoding, Collate, Type string // Type is LC_CTYPE
	Empty                   bool   // asked of the database postgres alone
}

// copyAll copies each database in turn. One that fails does not keep the others
// from being copied; the error is then the worst of theirs.
func copyAll(ctx context.Context, source, target pg.DSN, opts options.Copy, shown *copyControl, log zerolog.Logger, onCopy func(control.Copy)) (Report, error) {
	t, err := pg.Connect(ctx, target, pg.WithName("databases"))
	if err != nil {
		return Report{}, fmt.Errorf("target: %w", err)
	}
	defer dbconn.CloseNow(t)
	neon, err := dbconn.IsNeon(ctx, t)
	if err != nil {
		return Report{}, err
	}
	databases, err := sourceDatabases(ctx, source)
	if err != nil {
		return Report{}, err
	}
	if err := checkNames(databases, opts, neon); err != nil {
		return Report{}, err
	}
	var report Report
	for _, d := range databases {
		if ctx.Err() != nil {
			break
		}
		one := DatabaseReport{Source: d.Name, Target: opts.Renamed(d.Name)}
		switch {
		case !d.MayConnect:
			one.Skipped = "not copied: the role may not connect"
		case d.Empty:
			one.Skipped = "not copied: empty"
		default:
			one = copyOneOfAll(ctx, t, d, source, target, opts, shown, log, onCopy)
		}
		report.Databases = append(report.Databases, one)
	}
	return report, allErrors(report, ctx.Err())
}

// copyOneOfAll makes the database on the target where it is missing, and copies
// it. What was made for a copy that is refused is dropped again.
func copyOneOfAll(ctx context.Context, t *pgx.Conn, d sourceDatabase, source, target pg.DSN, opts options.Copy, shown *copyControl, log zerolog.Logger, onCopy func(control.Copy)) DatabaseReport {
	name := opts.Renamed(d.Name)
	made, note, err := makeDatabase(ctx, t, d, name)
	if err != nil {
		return DatabaseReport{Source: d.Name, Target: name, Err: err}
	}
	log.Info().Str("database", d.Name).Str("target", name).Msg("database is copied")
	one := copyDatabase(ctx, source.WithDatabase(d.Name), target.WithDatabase(name), opts, shown, log, onCopy)
	if note != "" {
		one.Notes = append(one.Notes, note)
	}
	if made && one.Err != nil && exit.Code(one.Err) != exit.CodeNotComplete {
		if _, err := t.Exec(context.WithoutCancel(ctx), "DROP DATABASE "+pg.QuoteIdent(name)); err != nil {
			one.Err = exit.NotComplete(fmt.Errorf("%w; its empty database stays: %w", one.Err, err))
		}
	}
	return one
}

// allErrors is the error of a report: the worst exit code, and a line that says how many failed.
func allErrors(r Report, broken error) error {
	failed, code := 0, 0
	var first error
	for _, d := range r.Databases {
		if d.Err == nil {
			continue
		}
		failed++
		code = max(code, exit.Code(d.Err))
		if first == nil {
			first = fmt.Errorf("database %s: %w", d.Source, d.Err)
		}
	}
	copied := slices.ContainsFunc(r.Databases, func(d DatabaseReport) bool { return d.Err == nil && d.Skipped == "" })
	switch {
	case failed == 0:
		return broken
	case failed == 1 && len(r.Databases) == 1:
		return first
	case copied || code == exit.CodeNotComplete: // something was changed
		return exit.NotComplete(fmt.Errorf("%d of %d databases were not copied; the first: %w", failed, len(r.Databases), first))
	}
	return fmt.Errorf("%d of %d databases were not copied; the first: %w", failed, len(r.Databases), first)
}

// sourceDatabases lists what may be copied of the source's server.
func sourceDatabases(ctx context.Context, source pg.DSN) ([]sourceDatabase, error) {
	conn, err := pg.Connect(ctx, source, pg.WithName("databases"))
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer dbconn.CloseNow(conn)
	list, err := pg.Rows(ctx, conn, pgx.RowToStructByPos[sourceDatabase], `SELECT datname::text, has_database_privilege(oid, 'CONNECT'), pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, false
		FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> ALL (coalesce($1::text[], '{}')) ORDER BY 1`, platformDatabases)
	if err != nil {
		return nil, fmt.Errorf("list the source's databases: %w", err)
	}
	for i := range list {
		if list[i].Name == neonDatabase && list[i].MayConnect {
			if list[i].Empty, err = isEmpty(ctx, source.WithDatabase(neonDatabase)); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// isEmpty reports whether a database holds nothing of the user's: every server
// has a database postgres, and most leave it so.
func isEmpty(ctx context.Context, d pg.DSN) (bool, error) {
	conn, err := pg.Connect(ctx, d, pg.WithName("databases"))
	if err != nil {
		return false, err
	}
	defer dbconn.CloseNow(conn)
	var empty bool
	err = conn.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384)
		AND NOT EXISTS (SELECT FROM pg_type WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_')
		AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)`).Scan(&empty)
	return empty, pg.Wrap(err, "check whether database %s is empty", d.Database())
}

// checkNames refuses names that cannot be, before anything is made.
func checkNames(databases []sourceDatabase, opts options.Copy, neon bool) error {
	names := lists.Map(databases, func(d sourceDatabase) string { return d.Name })
	seen := map[string]string{}
	if unknown := opts.UnknownRenames(names); len(unknown) > 0 {
		return exit.Usage(fmt.Errorf("--rename-database %s: the source has no such database; it has %s", unknown[0], strings.Join(names, ", ")))
	}
	for _, d := range databases {
		if d.Empty || !d.MayConnect {
			continue
		}
		to := opts.Renamed(d.Name)
		if other, ok := seen[to]; ok {
			return exit.Usage(fmt.Errorf("databases %s and %s would both be %s on the target: give one another name with --rename-database", other, d.Name, to))
		}
		seen[to] = d.Name
		if neon && to == neonDatabase {
			return exit.Usage(fmt.Errorf("database %s is Neon's own on the target: give it another name with --rename-database %s=NAME", to, d.Name))
		}
	}
	return nil
}

// makeDatabase makes a database on the target, like the source's where its server
// knows the locale, unless it is there.
func makeDatabase(ctx context.Context, t *pgx.Conn, d sourceDatabase, name string) (made bool, note string, err error) {
	var there bool
	if err := t.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&there); err != nil {
		return false, "", fmt.Errorf("look for database %s on the target: %w", name, err)
	}
	if there {
		return false, "", nil
	}
	create := "CREATE DATABASE " + pg.QuoteIdent(name)
	like := create + " TEMPLATE template0 ENCODING " + pg.QuoteLiteral(d.Encoding) + " LC_COLLATE " + pg.QuoteLiteral(d.Collate) + " LC_CTYPE " + pg.QuoteLiteral(d.Type)
	_, err = t.Exec(ctx, like)
	if err != nil && pg.Code(err) != "" && !pg.IsCode(err, pg.CodeInsufficientPrivilege, pg.CodeDiskFull) {
		note = fmt.Sprintf("DATABASE %s: has the target's locale, since its server does not take %s", name, d.Collate)
		_, err = t.Exec(ctx, create)
	}
	switch {
	case pg.IsCode(err, pg.CodeInsufficientPrivilege):
		return false, "", fmt.Errorf("make database %s on the target: %w; on the target, as a role that may: %s OWNER %s; or let the role: ALTER ROLE %[4]s CREATEDB", name, err, like, pg.QuoteIdent(t.Config().User))
	case err != nil:
		return false, "", fmt.Errorf("make database %s on the target: %w", name, err)
	}
	return true, note, nil
}
