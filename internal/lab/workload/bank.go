package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

const (
	// bankAccounts are so few that most transfers of several clients meet another one.
	bankAccounts = 20
	// lastTransfers is how many of the transfers made last a reader of the balances looks at.
	lastTransfers = 8
)

// Bank is a bank whose clients move money between few accounts, and read all balances in one
// snapshot, in several statements, so that history.Check can tell where money comes or goes.
type Bank struct{}

// Ledger implements Scenario.
func (Bank) Ledger() pg.Name { return pg.Name{Schema: "bank", Name: "ledger"} }

func (Bank) tables() history.Bank {
	return history.Bank{Accounts: pg.Name{Schema: "bank", Name: "accounts"}, Transfers: pg.Name{Schema: "bank", Name: "transfers"},
		Count: bankAccounts, Opening: 1000}
}

func (Bank) searchPath() string { return "bank" }

// Invariants implements Scenario: the balances are judged from the operations.
func (Bank) Invariants() []history.Invariant { return nil }

func (b Bank) judged(opt *history.Options) {
	tables := b.tables()
	opt.Bank = &tables
}

// Load makes the schema and opens the accounts. The database has none of that name.
func (b Bank) Load(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, "CREATE SCHEMA bank; "+b.tables().DDL()+"; "+history.LedgerDDL(b.Ledger())).ReadAll()
	return pg.Wrap(err, "load the bank")
}

// banker is one client's memory.
type banker struct{ rng *rand.Rand }

func (Bank) steps(rng *rand.Rand) []step {
	p := &banker{rng: rng}
	return []step{
		{kind: "bank transfer", weight: 3, explicit: p.transfer},
		{kind: "balances", weight: 1, read: p.balances},
	}
}

// transfer locks the accounts in the order of their ids, so that clients do not deadlock.
func (p *banker) transfer(ctx context.Context, w *work) error {
	x := &history.Transfer{From: 1 + p.rng.Int64N(bankAccounts), To: 1 + p.rng.Int64N(bankAccounts-1), Amount: 1 + p.rng.Int64N(50)}
	if x.To >= x.From {
		x.To++
	}
	w.op.Transfer = x
	change := map[int64]int64{x.From: -x.Amount, x.To: x.Amount}
	for _, id := range []int64{min(x.From, x.To), max(x.From, x.To)} {
		if err := w.one(ctx, "UPDATE accounts SET balance = balance + $2::bigint WHERE id = $1::bigint RETURNING id", id, change[id]); err != nil {
			return err
		}
	}
	_, err := w.insert(ctx, "bank.transfers_id_seq", `INSERT INTO transfers (client, seq, source, destination, amount)
		VALUES ($1::int, $2::bigint, $3::bigint, $4::bigint, $5::bigint) RETURNING id`, int64(w.op.Token.Client), w.op.Token.Seq, x.From, x.To, x.Amount)
	return err
}

// balances reads each half of the accounts with a statement of its own.
func (p *banker) balances(ctx context.Context, w *work) error {
	level := []string{"REPEATABLE READ", "SERIALIZABLE"}[p.rng.IntN(2)]
	_, err := w.rows(ctx, "BEGIN ISOLATION LEVEL "+level+" READ ONLY")
	if err != nil {
		return err
	}
	b := &history.Balances{Of: map[int64]int64{}}
	for _, read := range []func(context.Context, *work, *history.Balances) error{oddBalances, evenBalances, latest} {
		if err = read(ctx, w, b); err != nil {
			break
		}
	}
	if err == nil {
		_, err = w.rows(ctx, "COMMIT")
	}
	if err != nil {
		_, rerr := w.rows(ctx, "ROLLBACK")
		return errors.Join(err, rerr)
	}
	w.op.Balances = b
	return nil
}

func oddBalances(ctx context.Context, w *work, b *history.Balances) error { return half(ctx, w, b, 1) }
func evenBalances(ctx context.Context, w *work, b *history.Balances) error {
	return half(ctx, w, b, 0)
}

func half(ctx context.Context, w *work, b *history.Balances, rest int64) error {
	rows, err := w.rows(ctx, "SELECT id, balance, "+history.SideSQL+" FROM accounts WHERE id % 2 = $1::bigint", rest)
	if err != nil {
		return err
	}
	for _, r := range rows {
		id, err := strconv.ParseInt(r[0], 10, 64)
		if err == nil {
			b.Of[id], err = strconv.ParseInt(r[1], 10, 64)
		}
		if err != nil {
			return fmt.Errorf("read a balance: %w", err)
		}
		w.op.Side = r[2]
	}
	return nil
}

// latest reads which transfers were made last.
func latest(ctx context.Context, w *work, b *history.Balances) error {
	rows, err := w.rows(ctx, "SELECT client, seq FROM transfers ORDER BY id DESC LIMIT $1::bigint", int64(lastTransfers))
	if err != nil {
		return err
	}
	for _, r := range rows {
		client, err := strconv.Atoi(r[0])
		if err != nil {
			return fmt.Errorf("read who made a transfer: %w", err)
		}
		seq, err := strconv.ParseInt(r[1], 10, 64)
		if err != nil {
			return fmt.Errorf("read who made a transfer: %w", err)
		}
		b.Seen = append(b.Seen, history.Token{Client: client, Seq: seq})
	}
	return nil
}
