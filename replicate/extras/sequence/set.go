package sequence

import (
	"context"
	"fmt"
	"strings"
)

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

// Statement returns the one statement that sets the states, with its arguments,
// for a caller that sends it in a pipeline of its own. Its row goes to Outcome.
func Statement(states []State) (sql string, args []any) {
	nsp, rel := make([]string, len(states)), make([]string, len(states))
	last, called := make([]int64, len(states)), make([]bool, len(states))
	for i, s := range states {
		nsp[i], rel[i], last[i], called[i] = s.Name.Schema, s.Name.Name, s.Last, s.Called
	}
	return setQuery, []any{nsp, rel, last, called}
}

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
	if len(states) == 0 {
		return nil
	}
	_, args := Statement(states)
	var missing []string
	var set int
	if err := q.QueryRow(ctx, exactQuery, args...).Scan(&missing, &set); err != nil {
		return fmt.Errorf("set sequences: %w", err)
	}
	return Outcome(missing)
}

// Outcome judges the row that Statement's statement gave: the names that do not
// exist there, as "schema.name".
func Outcome(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("set sequences: not there: %s: the schemas of the two sides differ", strings.Join(missing, ", "))
}

// Set sets the sequences of the database that q leads to, with one statement,
// within the caller's transaction if there is one. It returns how many moved.
func Set(ctx context.Context, q Querier, states []State) (moved int, err error) {
	if len(states) == 0 {
		return 0, nil
	}
	sql, args := Statement(states)
	var missing []string
	if err := q.QueryRow(ctx, sql, args...).Scan(&missing, &moved); err != nil {
		return 0, fmt.Errorf("set sequences: %w", err)
	}
	return moved, Outcome(missing)
}
