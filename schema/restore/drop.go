package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
)

// codeInherited is what PostgreSQL says of a constraint that goes only with the one above it.
const codeInherited = "42P16"

// Done reads which entries have been restored, by their numbers in the archive.
func Done(ctx context.Context, conn *pgx.Conn) (map[int]bool, error) {
	rows, _ := conn.Query(ctx, `SELECT id FROM crossfade.item WHERE done`)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("read crossfade.item: %w", err)
	}
	return lists.Set(ids), nil
}

// Droppable lists those entries of a plan that have a statement that drops them, the last first.
// Extensions and the schema public stay.
func Droppable(p *plan.Plan, of func(*archive.Entry) bool) (entries []*archive.Entry) {
	for _, part := range []plan.Part{plan.PreData, plan.AfterCopy, plan.Decision, plan.Last} {
		entries = append(entries, p.Entries(part)...)
	}
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
			if err != nil && !pg.IsCode(err, codeInherited, pg.CodeDependentObjects) {
				return err
			}
			if err != nil {
				left, first = append(left, e), cmp.Or(first, err)
				var said *pgconn.PgError
				errors.As(err, &said)
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
	case pg.IsCode(err, pg.CodeUndefinedObject, pg.CodeUndefinedTable, pg.CodeUndefinedColumn, "42883", "3F000"):
		// It went with something that it belonged to.
	default:
		return fmt.Errorf("drop %s %s: %w", e.Kind, e.Tag, err)
	}
	if _, err := conn.Exec(ctx, `DELETE FROM crossfade.item WHERE id = $1`, e.ID); err != nil {
		return fmt.Errorf("record what was dropped: %w", err)
	}
	return nil
}
