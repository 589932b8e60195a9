package sequence

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Querier is a session, or a transaction of the caller's.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// State is the position of one sequence. If Called, Last was handed out;
// otherwise Last is the next to be handed out.
type State struct {
	Name   pg.Name
	Last   int64
	Called bool
}

// RightError names the sequences whose position may not be read.
type RightError struct{ Sequences []pg.Name }

func (e *RightError) Error() string {
	return fmt.Sprintf("read sequences: no right to read %s: GRANT SELECT ON SEQUENCE … (and USAGE on its schema) to the role that Crossfade uses",
		strings.Join(lists.Map(e.Sequences, pg.Name.Display), ", "))
}

// listQuery lists the sequences that belong to the application, with the last
// value where the catalog function tells it. A sequence of an extension counts
// only if the extension declares it as configuration that is dumped.
const listQuery = `SELECT n.nspname::text, c.relname::text,
		CASE WHEN r.readable OR pg_catalog.has_sequence_privilege(c.oid, 'USAGE') THEN pg_catalog.pg_sequence_last_value(c.oid) END,
		r.readable AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	CROSS JOIN LATERAL (SELECT pg_catalog.has_sequence_privilege(c.oid, 'SELECT') AS readable) r
	WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname <> 'crossfade'
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
		WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
		AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
		AND NOT c.oid = ANY (coalesce(e.extconfig, '{}')))
	ORDER BY 1, 2`

// batch is how many unused sequences are read by one statement: few enough that
// the text stays small and the locks fit the server's lock table.
const batch = 200

// Read returns the positions of all sequences of the database, by schema and name: one query, and
// one more for each 200 sequences that were never used. The values are those of this moment,
// whatever snapshot the transaction has. A missing right is a *RightError.
func Read(ctx context.Context, q Querier) ([]State, error) {
	return ReadOf(ctx, q, func(pg.Name) bool { return true })
}

// ReadOf is Read for the sequences that takes selects. Rights on others do not matter.
func ReadOf(ctx context.Context, q Querier, takes func(pg.Name) bool) ([]State, error) {
	rows, _ := q.Query(ctx, listQuery)
	var states []State
	var unused []int // indexes in states
	var denied []pg.Name
	var name pg.Name
	var last *int64
	var readable bool
	_, err := pgx.ForEachRow(rows, []any{&name.Schema, &name.Name, &last, &readable}, func() error {
		s := State{Name: name}
		switch {
		case !takes(name):
			return nil
		case last != nil:
			s.Last, s.Called = *last, true
		case readable:
			unused = append(unused, len(states))
		default:
			denied = append(denied, name)
		}
		states = append(states, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	if len(denied) > 0 {
		return nil, &RightError{Sequences: denied}
	}
	for some := range slices.Chunk(unused, batch) {
		if err := readUnused(ctx, q, states, some); err != nil {
			return nil, fmt.Errorf("read sequences: %w", err)
		}
	}
	return states, nil
}

// readUnused reads sequences as the relations that they are.
func readUnused(ctx context.Context, q Querier, states []State, which []int) error {
	parts := lists.Map(which, func(at int) string {
		return fmt.Sprintf("SELECT %d, last_value, is_called FROM %s", at, states[at].Name)
	})
	rows, _ := q.Query(ctx, strings.Join(parts, " UNION ALL "))
	n, at := 0, 0
	var last int64
	var called bool
	_, err := pgx.ForEachRow(rows, []any{&at, &last, &called}, func() error {
		states[at].Last, states[at].Called = last, called
		n++
		return nil
	})
	if err != nil {
		return err
	}
	if n != len(which) {
		return fmt.Errorf("%d of %d sequences gave an answer", n, len(which))
	}
	return nil
}

// setQuery sets a whole list. A sequence that was never used here takes the state as it is; a used
// one moves only forwards in the direction of its increment, judged by the next value that it would
// hand out. The answer is the names that do not exist here, and how many were set.
const setQuery = `SELECT
	coalesce(pg_catalog.array_agg(w.nsp || '.' || w.rel) FILTER (WHERE s.oid IS NULL), '{}'),
	pg_catalog.count(CASE
		WHEN s.oid IS NULL THEN NULL
		WHEN s.now IS NULL THEN pg_catalog.setval(s.oid, w.last, w.called)
		WHEN s.inc > 0 AND w.last + CASE WHEN w.called THEN s.inc::numeric ELSE 0 END > s.now + s.inc::numeric
			THEN pg_catalog.setval(s.oid, w.last, w.called)
		WHEN s.inc < 0 AND w.last + CASE WHEN w.called THEN s.inc::numeric ELSE 0 END < s.now + s.inc::numeric
			THEN pg_catalog.setval(s.oid, w.last, w.called)
		END)
	FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[]), pg_catalog.unnest($4::boolean[]))
		AS w(nsp, rel, last, called)
	LEFT JOIN LATERAL (
		SELECT c.oid, q.seqincrement AS inc, pg_catalog.pg_sequence_last_value(c.oid)::numeric AS now
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid
		WHERE n.nspname = w.nsp AND c.relname = w.rel OFFSET 0) s ON true`

// exactQuery sets a whole list to what it says.
const exactQuery = `SELECT
	coalesce(pg_catalog.array_agg(w.nsp || '.' || w.rel) FILTER (WHERE s.oid IS NULL), '{}'),
	pg_catalog.count(CASE WHEN s.oid IS NOT NULL THEN pg_catalog.setval(s.oid, w.last, w.called) END)
	FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[]), pg_catalog.unnest($4::boolean[]))
		AS w(nsp, rel, last, called)
	LEFT JOIN LATERAL (
		SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid
		WHERE n.nspname = w.nsp AND c.relname = w.rel OFFSET 0) s ON true`

// SetExactly is Set for a database that nobody but us has used: sequences go to
// the states given, backwards too, since the application may have set them back.
func SetExactly(ctx context.Context, q Querier, states []State) error {
	_, err := set(ctx, q, exactQuery, states)
	return err
}

// Set sets the sequences of the database that q leads to, with one statement,
// within the caller's transaction if there is one. It returns how many moved.
func Set(ctx context.Context, q Querier, states []State) (moved int, err error) {
	return set(ctx, q, setQuery, states)
}

func set(ctx context.Context, q Querier, query string, states []State) (moved int, err error) {
	if len(states) == 0 {
		return 0, nil
	}
	nsp, rel := make([]string, len(states)), make([]string, len(states))
	last, called := make([]int64, len(states)), make([]bool, len(states))
	for i, s := range states {
		nsp[i], rel[i], last[i], called[i] = s.Name.Schema, s.Name.Name, s.Last, s.Called
	}
	var missing []string
	if err := q.QueryRow(ctx, query, nsp, rel, last, called).Scan(&missing, &moved); err != nil {
		return 0, fmt.Errorf("set sequences: %w", err)
	}
	if len(missing) > 0 {
		return moved, fmt.Errorf("set sequences: not there: %s: the schemas of the two sides differ", strings.Join(missing, ", "))
	}
	return moved, nil
}
