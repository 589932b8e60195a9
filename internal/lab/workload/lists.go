package workload

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

// Lists are lists of numbers that serializable transactions read and append to. The lists tell the
// order of all that happened, so that history.Check can look for cycles in it. Transactions that
// PostgreSQL ends with a serialization failure (SQLSTATE 40001) count as failed, and are part of
// every run.
type Lists struct{}

const (
	// activeKeys is how many lists are in use at a time.
	activeKeys = 8
	// keysLast is how many transactions a client begins before it goes on to other lists: what is
	// read grows with the length of a list.
	keysLast = 64
)

// Ledger implements Scenario.
func (Lists) Ledger() pg.Name { return pg.Name{Schema: "lists", Name: "ledger"} }

func (Lists) table() pg.Name { return pg.Name{Schema: "lists", Name: "lists"} }

func (Lists) searchPath() string { return "lists" }

// Invariants implements Scenario: what the lists must be is judged from the operations.
func (Lists) Invariants() []history.Invariant { return nil }

func (l Lists) judged(opt *history.Options) {
	table := l.table()
	opt.Lists = &table
}

// Load makes the schema. The database is empty.
func (l Lists) Load(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, "CREATE SCHEMA lists; "+history.ListsDDL(l.table())+"; "+history.LedgerDDL(l.Ledger())).ReadAll()
	return pg.Wrap(err, "load the lists")
}

// appender is one client's memory.
type appender struct {
	rng   *rand.Rand
	begun int64
}

func (Lists) steps(rng *rand.Rand) []step {
	p := &appender{rng: rng}
	return []step{{kind: "lists", weight: 1, explicit: p.transact}}
}

// transact reads lists and appends to them, up to four times, in the order of their keys, so that
// clients do not deadlock.
func (p *appender) transact(ctx context.Context, w *work) error {
	if _, err := w.rows(ctx, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"); err != nil {
		return err
	}
	first := p.begun / keysLast * activeKeys
	p.begun++
	ops := make([]history.ListOp, 1+p.rng.IntN(4))
	for i := range ops {
		ops[i].Key = first + p.rng.Int64N(activeKeys)
		if p.rng.IntN(2) == 0 {
			ops[i].Append = 1 + p.rng.Int64N(1<<62)
		}
	}
	slices.SortStableFunc(ops, func(a, b history.ListOp) int { return cmp.Compare(a.Key, b.Key) })
	for _, op := range ops {
		if err := p.do(ctx, w, &op); err != nil {
			return err
		}
		w.op.Lists = append(w.op.Lists, op)
	}
	return nil
}

func (p *appender) do(ctx context.Context, w *work, op *history.ListOp) error {
	if op.Append != 0 {
		return w.one(ctx, `INSERT INTO lists (key, items) VALUES ($1::bigint, ARRAY[$2::bigint])
			ON CONFLICT (key) DO UPDATE SET items = lists.items || excluded.items RETURNING key`, op.Key, op.Append)
	}
	rows, err := w.rows(ctx, "SELECT array_to_string(items, ',') FROM lists WHERE key = $1::bigint", op.Key)
	if err != nil || len(rows) == 0 {
		return err
	}
	for _, item := range strings.Split(rows[0][0], ",") {
		v, err := strconv.ParseInt(item, 10, 64)
		if err != nil {
			return fmt.Errorf("read the list of key %d: %w", op.Key, err)
		}
		op.Read = append(op.Read, v)
	}
	return nil
}
