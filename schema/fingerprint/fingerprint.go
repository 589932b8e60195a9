package fingerprint

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/pg"
)

// Options says what is left out. Fingerprints that are compared must
// be taken with the same options.
type Options struct {
	// Deferred leaves out what a side that we write lacks until a decision: foreign
	// keys, triggers, rules, the switches of row security, the kind of identity columns.
	Deferred bool
	// Checks are names of check constraints, as they stand in SQL, that are left out, wherever
	// they are: with Deferred, those that come with the decision (Plan.LateChecks).
	Checks []string
	// NoExtensions leaves extensions out. What is compared is then told by Drift, to which one that
	// only the target has is no difference: a platform brings its own.
	NoExtensions bool
}

// Object is one object of a fingerprint.
type Object struct {
	Kind string // table, column, index, constraint …
	Name string // qualified, unique within the kind
	// Definition holds facts that read the same on every major version.
	Definition string
	// Printed holds expressions as the server prints them. They are compared only
	// between servers of one major version, which print alike.
	Printed string
}

// Fingerprint is the schema of a database in a canonical order, without
// owners, privileges, tablespaces, access methods, comments and persistence.
type Fingerprint struct {
	Major   int // of the server
	Objects []Object
}

// Take reads the schema in one round trip and takes no lock that
// conflicts with anything short of ACCESS EXCLUSIVE. It may be called inside of
// a transaction, whose settings are as before afterwards.
func Take(ctx context.Context, conn *pgx.Conn, opts Options) (Fingerprint, error) {
	f := Fingerprint{Major: pg.ServerVersion(conn) / 10000}
	queries := fingerprintQueries(f.Major, opts)
	own := conn.PgConn().TxStatus() == 'I'
	var err error
	f.Objects, err = readObjects(conn.PgConn().Exec(ctx, fingerprintScript(queries, own)), queries)
	if err != nil {
		if own && conn.PgConn().TxStatus() != 'I' && !conn.IsClosed() {
			_, _ = conn.PgConn().Exec(context.WithoutCancel(ctx), "ROLLBACK").ReadAll() // the first error tells more
		}
		return Fingerprint{}, fmt.Errorf("take fingerprint of the schema: %w", err)
	}
	f.Objects = slices.DeleteFunc(f.Objects, func(o Object) bool {
		if o.Kind == kindExtension {
			return opts.NoExtensions
		}
		if o.Kind != kindConstraint || !strings.HasPrefix(o.Definition, "c ") {
			return false
		}
		_, name, _ := strings.Cut(o.Name, partSeparator)
		return slices.Contains(opts.Checks, name)
	})
	slices.SortFunc(f.Objects, func(a, b Object) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return f, nil
}

// readObjects takes the rows of the queries from the results of a script, in
// which everything else has a single column or none.
func readObjects(results *pgconn.MultiResultReader, queries []fingerprintQuery) ([]Object, error) {
	var objects []Object
	next := 0
	for results.NextResult() {
		rows := results.ResultReader()
		query := len(rows.FieldDescriptions()) == 3 && next < len(queries)
		for rows.NextRow() {
			if v := rows.Values(); query {
				objects = append(objects, Object{Kind: queries[next].kind, Name: string(v[0]), Definition: string(v[1]), Printed: string(v[2])})
			}
		}
		if query {
			next++
		}
	}
	if err := results.Close(); err != nil {
		return nil, err
	}
	if next != len(queries) {
		return nil, fmt.Errorf("%d results came for %d queries", next, len(queries))
	}
	return objects, nil
}

// fingerprintSettings decide how values and names are printed.
var fingerprintSettings = []struct{ name, value string }{
	{"search_path", ""}, {"DateStyle", "ISO"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
	{"extra_float_digits", "3"}, {"bytea_output", "hex"}, {"quote_all_identifiers", "off"},
}

// fingerprintScript puts the queries and the settings that they need into one
// text. In a transaction of the caller's the settings are put back, by way of
// settings of our own that last as long as the transaction.
func fingerprintScript(queries []fingerprintQuery, own bool) string {
	var b strings.Builder
	if own {
		b.WriteString("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n")
	}
	for _, s := range fingerprintSettings {
		if !own {
			fmt.Fprintf(&b, "SELECT pg_catalog.set_config('crossfade.was_%s', pg_catalog.current_setting('%[1]s'), true);\n", s.name)
		}
		fmt.Fprintf(&b, "SELECT pg_catalog.set_config('%s', '%s', true);\n", s.name, s.value)
	}
	for _, q := range queries {
		b.WriteString(q.sql + ";\n")
	}
	if own {
		b.WriteString("COMMIT;")
		return b.String()
	}
	for _, s := range fingerprintSettings {
		fmt.Fprintf(&b, "SELECT pg_catalog.set_config('%s', pg_catalog.current_setting('crossfade.was_%[1]s'), true);\n", s.name)
	}
	return b.String()
}
