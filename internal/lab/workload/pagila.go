package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

// Pagila is the DVD rental of the sample database of that name, in the schema
// pagila as LoadPagila makes it. Setup adds what the clients need.
type Pagila struct{}

// Ledger implements Scenario.
func (Pagila) Ledger() pg.Name { return pg.Name{Schema: "pagila", Name: "ledger"} }

func (Pagila) searchPath() string { return "pagila, public" }

// Invariants implements Scenario.
func (Pagila) Invariants() []history.Invariant {
	return []history.Invariant{
		{Name: "every payment has its rental", SQL: `SELECT count(*) = 0, format('%s payments, such as %s', count(*), min(p.payment_id))
			FROM pagila.payment p LEFT JOIN pagila.rental r USING (rental_id) WHERE r.rental_id IS NULL`},
		{Name: "no payment id twice", SQL: `SELECT count(*) = count(DISTINCT payment_id), format('%s payments, %s ids', count(*), count(DISTINCT payment_id))
			FROM pagila.payment`},
	}
}

// Setup makes the ledger, and a foreign key that leads from the partitioned
// table. The role of conn must own the schema.
func (p Pagila) Setup(ctx context.Context, conn *pgx.Conn) error {
	for _, text := range []string{
		history.LedgerDDL(p.Ledger()),
		`ALTER TABLE pagila.payment ADD CONSTRAINT payment_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES pagila.customer (customer_id)`,
	} {
		if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
			return fmt.Errorf("set up pagila: %w", err)
		}
	}
	return nil
}

// The sample data's last numbers.
const (
	pagilaInventory = 4581
	pagilaCustomers = 599
	pagilaFilms     = 1000
	pagilaPartsDays = 211 // of the partitions of payment: 2022-01-01 up to 2022-07-30
)

// renter is one client's memory.
type renter struct {
	rng      *rand.Rand
	rentals  owned // of its own making
	open     owned // of these, not returned yet
	payments owned // of its own making
	paid     map[int64]string
}

// customer and inventory avoid the few numbers that the sample data leave out.
func (p *renter) customer() int64  { return 1 + p.rng.Int64N(pagilaCustomers) }
func (p *renter) inventory() int64 { return 1 + p.rng.Int64N(pagilaInventory) }
func (p *renter) film() int64      { return 1 + p.rng.Int64N(pagilaFilms) }
func (p *renter) staff() int64     { return 1 + p.rng.Int64N(2) }

func (p *renter) payDay() string {
	day := time.Date(2022, 1, 1, 12, 0, 0, 0, time.UTC).AddDate(0, 0, p.rng.IntN(pagilaPartsDays))
	return day.Add(time.Duration(p.rng.Int64N(int64(10 * time.Hour)))).Format("2006-01-02 15:04:05.000000-07")
}

func (Pagila) steps(rng *rand.Rand) []step {
	p := &renter{rng: rng, paid: map[int64]string{}}
	return []step{
		{kind: "rent", weight: 6, explicit: p.rent},
		{kind: "pay", weight: 3, possible: p.rentals.some, single: p.pay},
		{kind: "return", weight: 3, possible: p.open.some, explicit: p.giveBack},
		{kind: "refund", weight: 1, possible: p.payments.some, explicit: p.refund},
		{kind: "customer", weight: 1, single: p.touchCustomer},
		{kind: "film", weight: 1, single: p.describeFilm},
		{kind: "two rentals", weight: 2, burst: p.twoRentals},
		{kind: "look", weight: 4, read: p.look},
	}
}

const insertRental = `INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id)
	VALUES (clock_timestamp(), $1::int, $2::int, $3::int)`

const insertPayment = `INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date)
	VALUES ($1::int, $2::int, $3::int, $4::int * 0.01, $5::text::timestamptz)`

// rent makes a rental and its first payment.
func (p *renter) rent(ctx context.Context, w *work) error {
	customer, staff, day := p.customer(), p.staff(), p.payDay()
	rental, err := w.insert(ctx, "pagila.rental_rental_id_seq", insertRental+" RETURNING rental_id", p.inventory(), customer, staff)
	if err != nil {
		return err
	}
	payment, err := w.insert(ctx, "pagila.payment_payment_id_seq", insertPayment+" RETURNING payment_id",
		customer, staff, rental[0], 99+p.rng.Int64N(900), day)
	if err != nil {
		return err
	}
	w.remember(func() {
		p.rentals.add(rental[0])
		p.open.add(rental[0])
		p.payments.add(payment[0])
		p.paid[payment[0]] = day
	})
	return nil
}

// pay pays for a rental of the client's own once more.
func (p *renter) pay(*work) single {
	return single{sequence: "pagila.payment_payment_id_seq", body: sql(insertPayment+" RETURNING payment_id::bigint",
		p.customer(), p.staff(), p.rentals.any(p.rng), 99+p.rng.Int64N(900), p.payDay())}
}

func (p *renter) giveBack(ctx context.Context, w *work) error {
	id := p.open.any(p.rng)
	p.open.remove(id)
	return w.one(ctx, "UPDATE rental SET return_date = now() WHERE rental_id = $1::int RETURNING rental_id", id)
}

func (p *renter) refund(ctx context.Context, w *work) error {
	id := p.payments.any(p.rng)
	p.payments.remove(id)
	day := p.paid[id]
	delete(p.paid, id)
	return w.one(ctx, "DELETE FROM payment WHERE payment_id = $1::int AND payment_date = $2::text::timestamptz RETURNING payment_id", id, day)
}

func (p *renter) touchCustomer(*work) single {
	return single{body: sql("UPDATE customer SET email = $2::text WHERE customer_id = $1::int RETURNING customer_id::bigint",
		p.customer(), fmt.Sprintf("c%d@example.org", p.rng.IntN(1_000_000)))}
}

// describeFilm fires a trigger that keeps a text search column.
func (p *renter) describeFilm(*work) single {
	return single{body: sql("UPDATE film SET description = $2::text WHERE film_id = $1::int RETURNING film_id::bigint",
		p.film(), fmt.Sprintf("A story of %d frogs and %d boats", p.rng.IntN(1000), p.rng.IntN(1000)))}
}

func (p *renter) twoRentals(*work) burst {
	return burst{
		statements: []statement{
			sql(insertRental, p.inventory(), p.customer(), p.staff()),
			sql(insertRental, p.inventory(), p.customer(), p.staff()),
		},
		ids:       "ARRAY[currval('rental_rental_id_seq')]",
		sequences: []string{"pagila.rental_rental_id_seq"},
	}
}

func (p *renter) look(ctx context.Context, w *work) error {
	var err error
	switch p.rng.IntN(5) {
	case 0:
		_, err = w.rows(ctx, "SELECT p_film_count FROM film_in_stock($1::int, $2::int)", p.film(), p.staff())
	case 1:
		_, err = w.rows(ctx, "SELECT p_film_count FROM film_not_in_stock($1::int, $2::int)", p.film(), p.staff())
	case 2:
		err = w.one(ctx, "SELECT inventory_in_stock($1::int)", p.inventory())
	case 3:
		err = w.one(ctx, "SELECT last_day(timestamptz '2022-02-03 12:00+00')::text")
	default:
		err = w.one(ctx, "SELECT name, city FROM customer_list WHERE id = $1::int", p.customer())
	}
	return err
}
