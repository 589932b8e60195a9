package passive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/plan"
)

// Parts of crossfade.reaction.
const (
	partDecide = "decide"
	partAfter  = "after"
)

// kindMode is the kind of the row that says in which mode sessions write, by its name. It is no
// statement, and is there for as long as the side is passive.
const (
	kindMode    = "MODE"
	modeReplica = "replica"
	modeOrigin  = "origin"
)

// row is a row of crossfade.reaction.
type row struct {
	id   int32
	part string
	plan.Statement
}

func read(ctx context.Context, conn *pgx.Conn) ([]row, error) {
	rows, err := pg.Rows(ctx, conn, func(r pgx.CollectableRow) (out row, err error) {
		var text string
		if err := r.Scan(&out.id, &out.part, &text); err != nil {
			return out, err
		}
		return out, json.Unmarshal([]byte(text), &out.Statement)
	}, `SELECT id, part, statement FROM crossfade.reaction ORDER BY id`)
	return rows, pg.Wrap(err, "read crossfade.reaction")
}

// modeOf is the mode that is recorded, "" where the side is not passive.
func modeOf(rows []row) string {
	for _, r := range rows {
		if r.Kind == kindMode {
			return r.Name
		}
	}
	return ""
}

func (r row) due(part string) (plan.Statement, bool) {
	return r.Statement, r.part == part && r.Kind != kindMode
}

func statements(rows []row, part string) []plan.Statement {
	return lists.Pick(rows, func(r row) (plan.Statement, bool) { return r.due(part) })
}

// merge adds what was found to what is recorded.
func merge(rows []row, replica bool, w *work) []row {
	mode := modeOrigin
	if replica {
		mode = modeReplica
	}
	out := []row{{part: partDecide, Statement: plan.Statement{Kind: kindMode, Name: mode}}}
	for _, s := range join(statements(rows, partDecide), w.decide) {
		out = append(out, row{part: partDecide, Statement: s})
	}
	after := join(statements(rows, partAfter), w.after)
	// Once a partitioned table gets its key, keys of leaves that are not validated do not become part
	// of it, and the server would make others and check all rows under its lock.
	slices.SortStableFunc(after, func(a, b plan.Statement) int { return cmp.Compare(turn(a), turn(b)) })
	for _, s := range after {
		out = append(out, row{part: partAfter, Statement: s})
	}
	for i := range out {
		out[i].id = int32(i + 1)
	}
	return out
}

// turn is when a statement of After has its turn.
func turn(s plan.Statement) int {
	switch s.Kind {
	case "VALIDATE":
		return 1
	case kindKey:
		return 2
	}
	return 3
}

// join appends the statements that are not there yet.
func join(have, more []plan.Statement) []plan.Statement {
	there := lists.SetOf(have, func(s plan.Statement) string { return s.SQL })
	return append(have, lists.Filter(more, func(s plan.Statement) bool { return !there[s.SQL] })...)
}

func write(ctx context.Context, conn *pgx.Conn, rows []row) error {
	ids, parts, texts := make([]int32, len(rows)), make([]string, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		text, err := json.Marshal(r.Statement)
		if err != nil {
			return fmt.Errorf("write crossfade.reaction: %w", err)
		}
		ids[i], parts[i], texts[i] = r.id, r.part, string(text)
	}
	if _, err := conn.Exec(ctx, `DELETE FROM crossfade.reaction`); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `INSERT INTO crossfade.reaction (id, part, statement)
		SELECT * FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int4[]), pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[])) AS r (id, part, statement)`,
		ids, parts, texts)
	return pg.Wrap(err, "write crossfade.reaction")
}

// Restoration reads what makes the side react again: what belongs into the decision, and what follows
// it. Both are empty where nothing is set aside.
func Restoration(ctx context.Context, conn *pgx.Conn) (sql plan.DecisionSQL, err error) {
	rows, err := read(ctx, conn)
	if err != nil {
		return sql, err
	}
	if sql.Decide = statements(rows, partDecide); len(sql.Decide) > 0 {
		sql.Decide = slices.Insert(sql.Decide, 0, plan.Statement{Kind: "SETTING", Name: "search_path", SQL: noPath})
	}
	sql.After = statements(rows, partAfter)
	return sql, nil
}

// Restored is what the decision runs with the statements of Decide: the side is not passive any more,
// and what of After is left is due.
const Restored = "DELETE FROM crossfade.reaction WHERE part = '" + partDecide + "';\n"

// Pending reads what is due of what follows a decision: nothing while the side is passive, since it
// would fail.
func Pending(ctx context.Context, conn *pgx.Conn) ([]plan.Statement, error) {
	rows, err := read(ctx, conn)
	if err != nil || modeOf(rows) != "" {
		return nil, err
	}
	return statements(rows, partAfter), nil
}

// Done records that a statement of After was executed. It may be called again.
func Done(ctx context.Context, conn *pgx.Conn, s plan.Statement) error {
	rows, err := read(ctx, conn)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if r.part != partAfter || r.SQL != s.SQL {
			continue
		}
		if _, err := conn.Exec(ctx, `DELETE FROM crossfade.reaction WHERE id = $1`, r.id); err != nil {
			return fmt.Errorf("take a statement out of crossfade.reaction: %w", err)
		}
	}
	return nil
}

var (
	// ErrNotPassive is within the error of Enter where nothing has been set aside.
	ErrNotPassive = errors.New("this side is not passive: what is written to it would fire its triggers")
	// ErrNotReplica is within the error of Enter where the role has lost what Make relied on.
	ErrNotReplica = errors.New("this side's triggers and foreign keys do not act in replica mode alone, and the role may no longer set session_replication_role")
)

// Enter prepares a session to write to a passive side, or refuses it. Nothing that it writes afterwards
// is reacted to.
func Enter(ctx context.Context, conn *pgx.Conn) error {
	rows, err := read(ctx, conn)
	if err != nil {
		return err
	}
	switch modeOf(rows) {
	case modeOrigin:
		return nil
	case modeReplica:
		err := pg.Exec(ctx, conn, "SET session_replication_role = replica")
		if pg.IsCode(err, pg.CodeInsufficientPrivilege) {
			return fmt.Errorf("%w: grant it that right again (%w)", ErrNotReplica, err)
		}
		return pg.Wrap(err, "enter replica mode")
	}
	return ErrNotPassive
}
