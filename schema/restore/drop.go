package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
)

// Done reads which entries have been restored, by their numbers in the archive.
func Done(ctx context.Context, conn *pgx.Conn) (map[int]bool, error) {
	ids, err := pg.Rows(ctx, conn, pgx.RowTo[int], `SELECT id FROM crossfade.item WHERE done`)
	return lists.Set(ids), pg.Wrap(err, "read crossfade.item")
}

// Droppable lists those entries of a plan that have a statement that drops them, the last first.
// Extensions and the schema public stay.
func Droppable(p *plan.Plan, of func(*archive.Entry) bool) (entries []*archive.Entry) {
	entries = p.All()
	slices.Reverse(entries)
	return slices.DeleteFunc(entries, func(e *archive.Entry) bool {
		return !of(e) || e.Drop == "" || e.Kind == "SCHEMA" && e.Tag == "public" || e.Kind == "EXTENSION"
	})
}

// DependentsError says that entries could not be dropped, since something depends on them that none
// of them is.
type DependentsError struct {
	Dependents []string // in PostgreSQL's form, such as "view mine depends on table public.t"
	Err        error    // PostgreSQL's error of the first entry
}

func (e *DependentsError) Error() string {
	return fmt.Sprintf("%v: %s", e.Err, strings.Join(e.Dependents, ", "))
}

func (e *DependentsError) Unwrap() error { return e.Err }

// Drop drops the entries in their order, with pg_dump's own statements, tells each ("TABLE
// public.t") and takes it out of crossfade.item. Schemas that others use stay. An error may be a
// *DependentsError; what was dropped until then is gone, so that Drop can be called again.
func Drop(ctx context.Context, conn *pgx.Conn, entries []*archive.Entry, tell func(object string)) error {
	// What belongs to something that was attached to it later, such as the key of
	// a partition, goes with that: it is tried again after the others.
	for len(entries) > 0 {
		var left []*archive.Entry
		var first error
		var depends []string
		for _, e := range entries {
			err := dropEntry(ctx, conn, e, tell)
			if err != nil && !pg.IsCode(err, pg.CodeInvalidTable, pg.CodeDependentObjects) {
				return err
			}
			if err != nil {
				left, first = append(left, e), cmp.Or(first, err)
				said, _ := errors.AsType[*pgconn.PgError](err) // which one with a code is
				depends = append(depends, strings.Split(said.Detail, "\n")...)
			}
		}
		if len(left) < len(entries) {
			entries = left
			continue
		}
		if !slices.ContainsFunc(left, func(e *archive.Entry) bool { return e.Kind != "SCHEMA" }) {
			return nil // someone else uses them
		}
		return &DependentsError{Dependents: others(depends, left), Err: first}
	}
	return nil
}

// others leaves of what PostgreSQL says that depends on something what is none of the entries, or
// of them.
func others(depends []string, entries []*archive.Entry) (lines []string) {
	for _, line := range depends {
		what, _, ok := strings.Cut(line, " depends on ")
		if ok && !slices.Contains(lines, line) && !slices.ContainsFunc(entries, func(e *archive.Entry) bool {
			name := pg.Name{Schema: e.Schema, Name: e.Tag}.Display()
			return e.Kind != "SCHEMA" && (strings.HasSuffix(what, " "+name) || strings.Contains(what, " "+name+" "))
		}) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return depends
	}
	return lines
}

func dropEntry(ctx context.Context, conn *pgx.Conn, e *archive.Entry, tell func(string)) error {
	_, err := conn.PgConn().Exec(ctx, e.Drop).ReadAll()
	switch {
	case err == nil:
		tell(fmt.Sprintf("%s %s", e.Kind, pg.Name{Schema: e.Schema, Name: e.Tag}.Display()))
	case pg.IsCode(err, pg.CodeUndefinedObject, pg.CodeUndefinedTable, pg.CodeUndefinedColumn, pg.CodeUndefinedFunction, pg.CodeInvalidSchema):
		// It went with something that it belonged to.
	default:
		return fmt.Errorf("drop %s %s: %w", e.Kind, e.Tag, err)
	}
	_, err = conn.Exec(ctx, `DELETE FROM crossfade.item WHERE id = $1`, e.ID)
	return pg.Wrap(err, "record what was dropped")
}

// kept are the kinds that --clean leaves alone: an extension is the platform's as
// often as it is ours, and is not made again where it is.
var kept = []string{"EXTENSION", "DATABASE", "ENCODING", "STDSTRINGS", "SEARCHPATH", plan.KindProperties}

// dropScript drops what the target has of a list, in turns, since what depends on another one may
// stand after it. What is not there is passed over, and so is a schema that others use. Something
// that depends on an object and is not of the list makes it fail; then nothing is dropped.
const dropScript = `
DECLARE
	drops text[] := ARRAY[%s]::text[];
	todo integer[];
	later integer[];
	dropped integer[] := '{}';
	this integer;
BEGIN
	PERFORM pg_catalog.set_config('search_path', '', true);
	SELECT pg_catalog.array_agg(n ORDER BY n) INTO todo FROM pg_catalog.generate_series(1, pg_catalog.cardinality(drops)) n;
	LOOP
		later := '{}';
		FOREACH this IN ARRAY todo LOOP
			BEGIN
				EXECUTE drops[this];
				dropped := dropped || this;
			EXCEPTION
				WHEN undefined_table OR undefined_object OR undefined_function OR undefined_column OR invalid_schema_name OR wrong_object_type THEN NULL;
				WHEN dependent_objects_still_exist OR invalid_table_definition OR object_not_in_prerequisite_state THEN
					later := later || this;
			END;
		END LOOP;
		EXIT WHEN later = '{}';
		IF pg_catalog.cardinality(later) = pg_catalog.cardinality(todo) THEN
			FOREACH this IN ARRAY todo LOOP
				IF drops[this] !~ '^DROP SCHEMA ' THEN
					EXECUTE drops[this];
				END IF;
			END LOOP;
			EXIT;
		END IF;
		todo := later;
	END LOOP;
	PERFORM pg_catalog.set_config('crossfade.dropped', pg_catalog.array_to_string(dropped, ' '), true);
END`

// Existing is an object of the target that DropExisting drops.
type Existing struct {
	Kind string // pg_dump's word
	Name string // as a person writes it
	Size int64  // of a table, with its indexes, in bytes; 0 for other kinds
}

// FindExisting lists what DropExisting would drop, in that order: it drops it, and takes
// that back. An error says that something is in the way of dropping.
func FindExisting(ctx context.Context, conn *pgx.Conn, p *plan.Plan) ([]Existing, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for what is on the target: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	sizes, err := tableSizes(ctx, conn)
	if err != nil {
		return nil, err
	}
	dropped, err := drop(ctx, conn, p)
	if err != nil {
		return nil, err
	}
	found := make([]Existing, len(dropped))
	for i, e := range dropped {
		found[i] = existing(e)
		if e.Kind == "TABLE" || e.Kind == "MATERIALIZED VIEW" {
			found[i].Size = sizes[pg.Name{Schema: e.Schema, Name: e.Tag}]
		}
	}
	return found, nil
}

// DropExisting drops on the target what the archive is going to make, as
// pg_restore --clean --if-exists does, all of it or nothing. It refuses, with
// nothing dropped, what is not in the list that was shown.
func DropExisting(ctx context.Context, conn *pgx.Conn, p *plan.Plan, shown []Existing) error {
	return pgx.BeginFunc(ctx, conn, func(pgx.Tx) error {
		dropped, err := drop(ctx, conn, p)
		if err != nil {
			return err
		}
		for _, e := range dropped {
			x := existing(e)
			if !slices.ContainsFunc(shown, func(s Existing) bool { return s.Kind == x.Kind && s.Name == x.Name }) {
				return fmt.Errorf("drop what is on the target: %s %s has come since the list was made; nothing was dropped: run the command again", x.Kind, x.Name)
			}
		}
		return nil
	})
}

func existing(e *archive.Entry) Existing {
	return Existing{Kind: e.Kind, Name: pg.Name{Schema: e.Schema, Name: e.Tag}.Display()}
}

// drop drops within conn's transaction, and returns the entries of what was there.
func drop(ctx context.Context, conn *pgx.Conn, p *plan.Plan) ([]*archive.Entry, error) {
	entries := lists.Filter(p.All(), func(e *archive.Entry) bool {
		return e.ID > 0 && !slices.Contains(kept, e.Kind) && len(sqltext.Split(e.Drop)) > 0
	})
	if len(entries) == 0 {
		return nil, nil
	}
	slices.Reverse(entries)
	drops := lists.Map(entries, func(e *archive.Entry) string { return pg.QuoteLiteral(strings.TrimSpace(e.Drop)) })
	body := fmt.Sprintf(dropScript, strings.Join(drops, ",\n"))
	if err := pg.Exec(ctx, conn, "DO "+pg.QuoteLiteral(body)); err != nil {
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == pg.CodeDependentObjects {
			return nil, fmt.Errorf("drop what is on the target: %w (%s); nothing was dropped: drop by hand what depends on it, or leave --clean out", err,
				strings.ReplaceAll(refused.Detail, "\n", ", "))
		}
		return nil, fmt.Errorf("drop what is on the target: %w; nothing was dropped", err)
	}
	var which string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('crossfade.dropped')`).Scan(&which); err != nil {
		return nil, fmt.Errorf("list what was dropped: %w", err)
	}
	var dropped []*archive.Entry
	for _, n := range strings.Fields(which) {
		i, err := strconv.Atoi(n)
		if err != nil || i < 1 || i > len(entries) {
			return nil, fmt.Errorf("list what was dropped: %q is no number of an object", n)
		}
		dropped = append(dropped, entries[i-1])
	}
	return dropped, nil
}

// tableSizes reads what the tables of a database take on disk.
func tableSizes(ctx context.Context, conn *pgx.Conn) (map[pg.Name]int64, error) {
	rows, _ := conn.Query(ctx, `SELECT n.nspname, c.relname, pg_catalog.pg_total_relation_size(c.oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`)
	sizes := map[pg.Name]int64{}
	var n pg.Name
	var size *int64 // NULL where the table was dropped meanwhile
	_, err := pgx.ForEachRow(rows, []any{&n.Schema, &n.Name, &size}, func() error {
		if size != nil {
			sizes[n] = *size
		}
		return nil
	})
	return sizes, pg.Wrap(err, "read the sizes of tables")
}
