package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

// Registers are single numbers that clients read, write, and replace where they are what a client
// expects. Each operation is a transaction of its own on one register, so that history.Check can
// look for an order of them. Values are drawn at random from so many that none is written twice.
type Registers struct{}

// Ledger implements Scenario.
func (Registers) Ledger() pg.Name { return pg.Name{Schema: "registers", Name: "ledger"} }

func (Registers) table() pg.Name { return pg.Name{Schema: "registers", Name: "registers"} }

func (Registers) searchPath() string { return "registers" }

// Invariants implements Scenario: what the registers must be is judged from the operations.
func (Registers) Invariants() []history.Invariant { return nil }

func (r Registers) judged(opt *history.Options) {
	table := r.table()
	opt.Registers = &table
}

// Load makes the schema. The database has none of that name.
func (r Registers) Load(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, "CREATE SCHEMA registers; "+history.RegistersDDL(r.table())+"; "+history.LedgerDDL(r.Ledger())).ReadAll()
	return pg.Wrap(err, "load the registers")
}

// registrar is one client's memory.
type registrar struct {
	rng   *rand.Rand
	begun int64
	known map[int64]int64 // by key: what the client saw or wrote last
}

func (Registers) steps(rng *rand.Rand) []step {
	p := &registrar{rng: rng, known: map[int64]int64{}}
	return []step{
		{kind: "register read", weight: 4, read: p.read},
		{kind: "register write", weight: 3, single: p.write},
		{kind: "register swap", weight: 3, explicit: p.swap},
	}
}

// next picks a key. Clients go on to other keys together, if they are as fast as each other:
// what it costs to judge a key grows with more than the number of operations on it.
func (p *registrar) next() int64 {
	first := p.begun / keysLast * activeKeys
	if p.begun%keysLast == 0 {
		clear(p.known)
	}
	p.begun++
	return first + p.rng.Int64N(activeKeys)
}

// value is one that nobody has written: not 0, which stands for a register without a row.
func (p *registrar) value() int64 { return 1 + p.rng.Int64N(1<<62) }

func (p *registrar) read(ctx context.Context, w *work) error {
	op := &history.RegisterOp{Key: p.next(), Kind: history.ReadRegister}
	rows, err := w.rows(ctx, "SELECT coalesce((SELECT value FROM registers WHERE key = $1::bigint), 0), "+history.SideSQL, op.Key)
	if err != nil {
		return err
	}
	if op.Read, err = strconv.ParseInt(rows[0][0], 10, 64); err != nil {
		return fmt.Errorf("read register %d: %w", op.Key, err)
	}
	w.op.Register, w.op.Side = op, rows[0][1]
	p.known[op.Key] = op.Read
	return nil
}

func (p *registrar) write(w *work) single {
	op := &history.RegisterOp{Key: p.next(), Kind: history.WriteRegister, New: p.value()}
	w.op.Register = op
	w.remember(func() { p.known[op.Key] = op.New })
	return single{body: sql(`INSERT INTO registers (key, value) VALUES ($1::bigint, $2::bigint)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING key`, op.Key, op.New)}
}

// swap writes where the register holds what the client knows of it; a client that knows nothing
// expects a value that is nowhere.
func (p *registrar) swap(ctx context.Context, w *work) error {
	op := &history.RegisterOp{Key: p.next(), Kind: history.CompareAndSet, New: p.value()}
	if op.Old = p.known[op.Key]; op.Old == 0 {
		op.Old = p.value()
	}
	w.op.Register = op
	rows, err := w.rows(ctx, "UPDATE registers SET value = $3::bigint WHERE key = $1::bigint AND value = $2::bigint RETURNING key", op.Key, op.Old, op.New)
	if err != nil {
		return err
	}
	if op.Done = len(rows) == 1; op.Done {
		w.remember(func() { p.known[op.Key] = op.New })
	}
	return nil
}
