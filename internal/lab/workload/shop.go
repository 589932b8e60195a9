package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

// defaultAccounts gives about 290,000 rows.
const defaultAccounts = 10_000

// Shop is a small shop of the workload's own making: accounts with balances,
// orders with items, partitioned events, documents with values out of line. The
// zero value has the default size.
type Shop struct {
	Accounts int // there are six times as many orders, twelve of items, ten of events
}

func (s Shop) accounts() int {
	if s.Accounts > 0 {
		return s.Accounts
	}
	return defaultAccounts
}

// Ledger implements Scenario.
func (Shop) Ledger() pg.Name { return pg.Name{Schema: "shop", Name: "ledger"} }

func (Shop) searchPath() string { return "shop" }

// Invariants implements Scenario.
func (Shop) Invariants() []history.Invariant {
	return []history.Invariant{
		{Name: "the balances sum up to 1000 for each account", SQL: `SELECT sum(balance) = 1000 * count(*),
			format('%s accounts have %s', count(*), sum(balance)) FROM shop.accounts`},
		{Name: "no order was counted twice by the trigger", SQL: `SELECT a.n = o.n, format('counted %s, there are %s', a.n, o.n)
			FROM (SELECT sum(orders) AS n FROM shop.accounts) a, (SELECT count(*) AS n FROM shop.orders) o`},
		{Name: "every order's items sum up to its total", SQL: `SELECT count(*) = 0, format('%s orders, such as %s', count(*), min(o.id))
			FROM shop.orders o LEFT JOIN (SELECT order_id, sum(amount) AS total FROM shop.order_items GROUP BY order_id) i ON i.order_id = o.id
			WHERE o.total IS DISTINCT FROM i.total`},
	}
}

// shopper is one client's memory.
type shopper struct {
	rng      *rand.Rand
	accounts int64
	orders   owned // of its own making
}

func (s *shopper) account() int64 { return 1 + s.rng.Int64N(s.accounts) }

func (s Shop) steps(rng *rand.Rand) []step {
	p := &shopper{rng: rng, accounts: int64(s.accounts())}
	return []step{
		{kind: "transfer", weight: 6, explicit: p.transfer},
		{kind: "order", weight: 5, explicit: p.order},
		{kind: "order state", weight: 3, possible: p.orders.some, explicit: p.orderState},
		{kind: "cancel", weight: 1, possible: p.orders.some, explicit: p.cancel},
		{kind: "event", weight: 3, single: p.event},
		{kind: "open account", weight: 1, single: p.openAccount},
		{kind: "profile", weight: 2, single: p.profile},
		{kind: "document", weight: 1, single: p.document},
		{kind: "two events", weight: 2, burst: p.twoEvents},
		{kind: "look", weight: 4, read: p.look},
	}
}

// transfer locks the accounts in the order of their ids, so that clients do not
// deadlock.
func (p *shopper) transfer(ctx context.Context, w *work) error {
	a, b := p.account(), p.account()
	for a == b {
		b = p.account()
	}
	amount := 1 + p.rng.Int64N(50)
	if a > b {
		a, b, amount = b, a, -amount
	}
	const move = "UPDATE accounts SET balance = balance + $2::bigint WHERE id = $1::bigint RETURNING id"
	if err := w.one(ctx, move, a, -amount); err != nil {
		return err
	}
	return w.one(ctx, move, b, amount)
}

// order inserts an order, its items, and a total that fits them.
func (p *shopper) order(ctx context.Context, w *work) error {
	n, quantity, cents := 1+p.rng.Int64N(4), 1+p.rng.Int64N(5), 100+p.rng.Int64N(5000)
	ids, err := w.insert(ctx, "shop.orders_id_seq", `INSERT INTO orders (account_id, total, note)
		VALUES ($1::bigint, $2::bigint * 0.01, $3::text::jsonb) RETURNING id`,
		p.account(), n*quantity*cents, fmt.Sprintf(`{"gift": %t}`, p.rng.IntN(2) == 0))
	if err != nil {
		return err
	}
	if _, err := w.insert(ctx, "shop.order_items_id_seq", `INSERT INTO order_items (order_id, product, quantity, price)
		SELECT $1::bigint, 'product ' || n, $2::int, $3::bigint * 0.01 FROM generate_series(1, $4::int) n RETURNING id`,
		ids[0], quantity, cents, n); err != nil {
		return err
	}
	w.remember(func() { p.orders.add(ids[0]) })
	return nil
}

func (p *shopper) orderState(ctx context.Context, w *work) error {
	state := []string{"paid", "shipped", "cancelled"}[p.rng.IntN(3)]
	return w.one(ctx, "UPDATE orders SET state = $2::text::order_state WHERE id = $1::bigint RETURNING id", p.orders.any(p.rng), state)
}

// cancel deletes one of the client's own orders, and with it its items.
func (p *shopper) cancel(ctx context.Context, w *work) error {
	id := p.orders.any(p.rng)
	p.orders.remove(id) // also when the outcome is unknown
	return w.one(ctx, "DELETE FROM orders WHERE id = $1::bigint RETURNING id", id)
}

func (p *shopper) event(*work) single {
	return single{sequence: "shop.events_id_seq", body: sql(`INSERT INTO events (account_id, at, kind, payload)
		VALUES ($1::bigint, timestamptz '2025-01-01 00:00+00' + $2::int * interval '1 hour', 'single', '{"from": "workload"}') RETURNING id`,
		p.account(), p.rng.Int64N(24*364))}
}

func (p *shopper) openAccount(*work) single {
	return single{sequence: "shop.accounts_id_seq", body: sql(`INSERT INTO accounts (owner, balance) VALUES ($1::text, 1000) RETURNING id`,
		"new owner "+strconv.FormatUint(p.rng.Uint64(), 36))}
}

func (p *shopper) profile(*work) single {
	return single{body: sql(`UPDATE accounts SET profile = profile || jsonb_build_object('seen', $2::int) WHERE id = $1::bigint RETURNING id`,
		p.account(), p.rng.Int64N(1000))}
}

// document changes a row and leaves its value out of line as it is.
func (p *shopper) document(*work) single {
	return single{body: sql(`UPDATE documents SET title = $2::text, rating = rating + 0.1 WHERE number = $1::int RETURNING number::bigint`,
		1+p.rng.Int64N(min(p.accounts, 400)), "title "+strconv.FormatUint(p.rng.Uint64(), 36))}
}

func (p *shopper) twoEvents(*work) burst {
	const insert = `INSERT INTO events (account_id, at, kind) VALUES ($1::bigint, timestamptz '2025-06-30 00:00+00' + $2::int * interval '1 day', 'burst')`
	return burst{
		statements: []statement{sql(insert, p.account(), p.rng.Int64N(2)), sql(insert, p.account(), p.rng.Int64N(300))},
		ids:        "ARRAY[currval('events_id_seq')]",
		sequences:  []string{"shop.events_id_seq"},
	}
}

func (p *shopper) look(ctx context.Context, w *work) error {
	var err error
	switch p.rng.IntN(3) {
	case 0:
		err = w.one(ctx, `SELECT balance::text, orders, profile::text FROM accounts WHERE id = $1::bigint`, p.account())
	case 1:
		_, err = w.rows(ctx, `SELECT id, owner, total::text FROM open_orders WHERE account_id = $1::bigint ORDER BY id LIMIT 10`, p.account())
	default:
		_, err = w.rows(ctx, `SELECT state::text, orders FROM sales_by_state ORDER BY state`)
	}
	return err
}
