package workload

import (
	"context"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

// Library is a lending library of the workload's own making, whose schema has every
// kind of key and most kinds of objects: partitions by range, list and hash,
// materialised views, triggers, full text, enums, domains, generated columns.
type Library struct{}

//go:embed library.sql
var librarySQL string

// Ledger implements Scenario.
func (Library) Ledger() pg.Name { return pg.Name{Schema: "library", Name: "ledger"} }

func (Library) searchPath() string { return "library, public" }

// Invariants implements Scenario.
func (Library) Invariants() []history.Invariant {
	return []history.Invariant{
		{Name: "every fee has its loan", SQL: `SELECT count(*) = 0, format('%s fees, such as %s', count(*), min(f.fee_id))
			FROM library.fee f LEFT JOIN library.loan l USING (loan_id) WHERE l.loan_id IS NULL`},
		{Name: "no fee id twice", SQL: `SELECT count(*) = count(DISTINCT fee_id), format('%s fees, %s ids', count(*), count(DISTINCT fee_id))
			FROM library.fee`},
		{Name: "no loan was counted twice by the trigger", SQL: `SELECT r.n = l.n, format('counted %s, there are %s', r.n, l.n)
			FROM (SELECT sum(loans) AS n FROM library.reader) r, (SELECT count(*) AS n FROM library.loan) l`},
		{Name: "the text search column follows the title", SQL: `SELECT count(*) = 0, format('%s books, such as %s', count(*), min(book_id))
			FROM library.book WHERE strip(fulltext) <> strip(to_tsvector('library.plain', title || ' ' || coalesce(blurb, '')))`},
	}
}

// Load makes the schema library and its rows. The role of conn becomes their owner;
// it needs CREATE on the database and nothing else.
func (Library) Load(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.PgConn().Exec(ctx, librarySQL).ReadAll(); err != nil {
		return fmt.Errorf("make schema library: %w", err)
	}
	return nil
}

// Setup is Load, and makes the ledger.
func (l Library) Setup(ctx context.Context, conn *pgx.Conn) error {
	if err := l.Load(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.PgConn().Exec(ctx, history.LedgerDDL(l.Ledger())).ReadAll(); err != nil {
		return fmt.Errorf("make the ledger of the library: %w", err)
	}
	return nil
}

// How many there are of each, numbered from 1.
const (
	libraryItems      = 3000
	libraryReaders    = 500
	libraryBooks      = 800
	libraryLibrarians = 9
	libraryBranches   = 3
	libraryFeeDays    = 230 // from 2025-01-01: beyond the last month there is the default partition
)

// borrower is one client's memory.
type borrower struct {
	rng   *rand.Rand
	loans owned // of its own making
	out   owned // of these, not returned yet
	fees  owned // of its own making
	paid  map[int64]string
}

func (b *borrower) item() int64      { return 1 + b.rng.Int64N(libraryItems) }
func (b *borrower) reader() int64    { return 1 + b.rng.Int64N(libraryReaders) }
func (b *borrower) book() int64      { return 1 + b.rng.Int64N(libraryBooks) }
func (b *borrower) librarian() int64 { return 1 + b.rng.Int64N(libraryLibrarians) }

func (b *borrower) payDay() string {
	day := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, b.rng.IntN(libraryFeeDays))
	return day.Add(time.Duration(b.rng.Int64N(int64(23 * time.Hour)))).Format("2006-01-02 15:04:05.000000-07")
}

func (Library) steps(rng *rand.Rand) []step {
	b := &borrower{rng: rng, paid: map[int64]string{}}
	return []step{
		{kind: "lend", weight: 6, explicit: b.lend},
		{kind: "charge", weight: 3, possible: b.loans.some, single: b.charge},
		{kind: "give back", weight: 3, possible: b.out.some, explicit: b.giveBack},
		{kind: "refund", weight: 1, possible: b.fees.some, explicit: b.refund},
		{kind: "reader", weight: 1, single: b.settings},
		{kind: "book", weight: 1, single: b.describe},
		{kind: "visit", weight: 1, single: b.visit},
		{kind: "remark", weight: 1, explicit: b.remark},
		{kind: "two loans", weight: 2, burst: b.twoLoans},
		{kind: "look", weight: 4, read: b.look},
	}
}

const insertLoan = `INSERT INTO loan (lent_at, item_id, reader_id, librarian_id)
	VALUES (clock_timestamp(), $1::int, $2::int, $3::int)`

const insertFee = `INSERT INTO fee (reader_id, librarian_id, loan_id, amount, paid_at)
	VALUES ($1::int, $2::int, $3::int, $4::int * 0.01, $5::text::timestamptz)`

// The names of the sequences that clients draw from.
const (
	loanSequence  = "library.loan_loan_id_seq"
	feeSequence   = "library.fee_fee_id_seq"
	visitSequence = "library.visit_visit_id_seq"
)

// lend makes a loan and its fee, with a receipt that refers to a row of a partition.
func (b *borrower) lend(ctx context.Context, w *work) error {
	reader, librarian, day := b.reader(), b.librarian(), b.payDay()
	loan, err := w.insert(ctx, loanSequence, insertLoan+" RETURNING loan_id", b.item(), reader, librarian)
	if err != nil {
		return err
	}
	fee, err := w.insert(ctx, feeSequence, insertFee+" RETURNING fee_id", reader, librarian, loan[0], 99+b.rng.Int64N(900), day)
	if err != nil {
		return err
	}
	if err := w.one(ctx, "INSERT INTO receipt (fee_id, paid_at) VALUES ($1::bigint, $2::text::timestamptz) RETURNING number", fee[0], day); err != nil {
		return err
	}
	w.remember(func() {
		b.loans.add(loan[0])
		b.out.add(loan[0])
		b.fees.add(fee[0])
		b.paid[fee[0]] = day
	})
	return nil
}

// charge asks one more fee for a loan of the client's own.
func (b *borrower) charge(*work) single {
	return single{sequence: feeSequence, body: sql(insertFee+" RETURNING fee_id::bigint",
		b.reader(), b.librarian(), b.loans.any(b.rng), 99+b.rng.Int64N(900), b.payDay())}
}

func (b *borrower) giveBack(ctx context.Context, w *work) error {
	id := b.out.any(b.rng)
	b.out.remove(id)
	return w.one(ctx, "UPDATE loan SET returned_at = now(), state = 'returned' WHERE loan_id = $1::int RETURNING loan_id", id)
}

// refund deletes a fee, and by a foreign key its receipt.
func (b *borrower) refund(ctx context.Context, w *work) error {
	id := b.fees.any(b.rng)
	b.fees.remove(id)
	day := b.paid[id]
	delete(b.paid, id)
	return w.one(ctx, "DELETE FROM fee WHERE fee_id = $1::bigint AND paid_at = $2::text::timestamptz RETURNING fee_id", id, day)
}

func (b *borrower) settings(*work) single {
	return single{body: sql("UPDATE reader SET mail = $2::text, settings = settings || jsonb_build_object('n', $3::int) WHERE reader_id = $1::int RETURNING reader_id::bigint",
		b.reader(), fmt.Sprintf("r%d@example.com", b.rng.Int64()), b.rng.Int64N(1000))}
}

// describe fires a trigger that keeps a text search column, and a generated one.
func (b *borrower) describe(*work) single {
	return single{body: sql("UPDATE book SET blurb = $2::text, price = price + 0.01 WHERE book_id = $1::int RETURNING book_id::bigint",
		b.book(), fmt.Sprintf("A story of %d frogs and %d boats", b.rng.IntN(1000), b.rng.IntN(1000)))}
}

// visit goes to a partition of a partition, or to one by list.
func (b *borrower) visit(*work) single {
	kind := []string{"school", "it's a tour", "single"}[b.rng.IntN(3)]
	return single{sequence: visitSequence, body: sql("INSERT INTO visit (kind, on_day, visitors) VALUES ($1::text, date '2025-01-01' + $2::int, $3::int) RETURNING visit_id",
		kind, b.rng.Int64N(200), b.rng.Int64N(40))}
}

// remark writes a table that has no key.
func (b *borrower) remark(ctx context.Context, w *work) error {
	line := fmt.Sprintf("remark %d\t\\ %d", b.rng.Int64(), b.rng.Int64())
	if err := w.one(ctx, "INSERT INTO remark VALUES ($1::text, $2::int / 7.0) RETURNING 1", line, b.rng.Int64N(1000)); err != nil {
		return err
	}
	return w.one(ctx, "UPDATE remark SET rating = rating + 1 WHERE line = $1::text RETURNING 1", line)
}

// twoLoans are of one reader: the trigger locks the row of each.
func (b *borrower) twoLoans(*work) burst {
	reader := b.reader()
	return burst{
		statements: []statement{
			sql(insertLoan, b.item(), reader, b.librarian()),
			sql(insertLoan, b.item(), reader, b.librarian()),
		},
		ids:       "ARRAY[currval('loan_loan_id_seq')]",
		sequences: []string{loanSequence},
	}
}

func (b *borrower) look(ctx context.Context, w *work) error {
	var err error
	switch b.rng.IntN(6) {
	case 0:
		_, err = w.rows(ctx, "SELECT item FROM items_of($1::int, $2::int)", b.book(), 1+b.rng.Int64N(libraryBranches))
	case 1:
		_, err = w.rows(ctx, "SELECT book_id FROM book WHERE words @@ plainto_tsquery('simple', 'frog') AND book_id < $1::int", b.book())
	case 2:
		err = w.one(ctx, "SELECT is_in($1::int)", b.item())
	case 3:
		err = w.one(ctx, "SELECT last_day(timestamptz '2025-02-03 12:00+00')::text, owes($1::int)", b.reader())
	case 4:
		err = w.one(ctx, "SELECT title, authors FROM book_list WHERE book_id = $1::int", b.book())
	default:
		err = w.one(ctx, "SELECT name, city FROM reader_list WHERE id = $1::int", b.reader())
	}
	return err
}
