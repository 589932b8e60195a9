package workload

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/lab/history"
)

// shopTables are made before the rows, shopRest after them.
const shopTables = `
CREATE SCHEMA shop;
CREATE TYPE shop.order_state AS ENUM ('new', 'paid', 'shipped', 'cancelled');
CREATE TABLE shop.accounts (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	owner text NOT NULL,
	balance numeric(14,2) NOT NULL,
	orders integer NOT NULL DEFAULT 0, -- counted by a trigger
	profile jsonb NOT NULL DEFAULT '{}',
	updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE shop.orders (
	id bigserial PRIMARY KEY,
	account_id bigint NOT NULL,
	state shop.order_state NOT NULL DEFAULT 'new',
	total numeric(12,2) NOT NULL,
	note jsonb,
	created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE shop.order_items (
	id bigserial PRIMARY KEY,
	order_id bigint NOT NULL,
	product text NOT NULL,
	quantity integer NOT NULL CHECK (quantity > 0),
	price numeric(10,2) NOT NULL,
	amount numeric(12,2) GENERATED ALWAYS AS (quantity * price) STORED);
CREATE TABLE shop.events (
	id bigserial,
	account_id bigint NOT NULL,
	at timestamptz NOT NULL,
	kind text NOT NULL,
	payload jsonb,
	PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2025_q1 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01 00:00+00') TO ('2025-04-01 00:00+00');
CREATE TABLE shop.events_2025_q2 PARTITION OF shop.events FOR VALUES FROM ('2025-04-01 00:00+00') TO ('2025-07-01 00:00+00');
CREATE TABLE shop.events_2025_q3 PARTITION OF shop.events FOR VALUES FROM ('2025-07-01 00:00+00') TO ('2025-10-01 00:00+00');
CREATE TABLE shop.events_rest PARTITION OF shop.events DEFAULT;
CREATE TABLE shop.documents (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	number integer NOT NULL UNIQUE,
	title text NOT NULL,
	tags text[] NOT NULL DEFAULT '{}',
	body bytea NOT NULL, -- some kilobytes that do not compress: out of line
	rating double precision,
	revised interval)`

const shopRest = `
CREATE INDEX ON shop.orders (account_id);
CREATE INDEX ON shop.orders (created_at) WHERE state = 'new';
CREATE INDEX ON shop.order_items (order_id);
CREATE INDEX ON shop.accounts (lower(owner));
CREATE INDEX ON shop.accounts USING gin (profile);
CREATE INDEX ON shop.events (account_id, at);
ALTER TABLE shop.orders ADD CONSTRAINT orders_account_fkey FOREIGN KEY (account_id) REFERENCES shop.accounts;
ALTER TABLE shop.order_items ADD CONSTRAINT order_items_order_fkey FOREIGN KEY (order_id) REFERENCES shop.orders ON DELETE CASCADE;
ALTER TABLE shop.events ADD CONSTRAINT events_account_fkey FOREIGN KEY (account_id) REFERENCES shop.accounts;
CREATE FUNCTION shop.count_orders() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		UPDATE shop.accounts SET orders = orders + 1 WHERE id = NEW.account_id;
	ELSE
		UPDATE shop.accounts SET orders = orders - 1 WHERE id = OLD.account_id;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER count_orders AFTER INSERT OR DELETE ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.count_orders();
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.updated_at := clock_timestamp();
	RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE UPDATE ON shop.accounts FOR EACH ROW EXECUTE FUNCTION shop.touch();
CREATE VIEW shop.open_orders AS
	SELECT o.id, o.account_id, a.owner, o.total FROM shop.orders o JOIN shop.accounts a ON a.id = o.account_id WHERE o.state = 'new';
CREATE MATERIALIZED VIEW shop.sales_by_state AS
	SELECT state, count(*) AS orders, sum(total) AS total FROM shop.orders GROUP BY state;
CREATE UNIQUE INDEX ON shop.sales_by_state (state);
COMMENT ON TABLE shop.accounts IS 'whose balances sum up to 1000 each'`

// shopRows fill the tables; %d is the number of accounts.
const shopRows = `
INSERT INTO shop.accounts (owner, balance, profile)
	SELECT 'owner ' || i, 1000, jsonb_build_object('level', i %% 7, 'city', md5((i %% 100)::text))
	FROM generate_series(1, %[1]d) i;
INSERT INTO shop.orders (account_id, state, total, note, created_at)
	SELECT 1 + i %% %[1]d, (enum_range(NULL::shop.order_state))[1 + i %% 4], 0,
		CASE WHEN i %% 3 = 0 THEN jsonb_build_object('note', md5(i::text)) END,
		timestamptz '2025-01-01 00:00+00' + i * interval '1 minute'
	FROM generate_series(1, %[1]d * 6) i;
INSERT INTO shop.order_items (order_id, product, quantity, price)
	SELECT o, 'product ' || (o * 3 + n) %% 997, 1 + o %% 5, 1 + (o %% 90) / 10.0
	FROM generate_series(1, %[1]d * 6) o, generate_series(1, 2) n;
UPDATE shop.orders o SET total = s.total
	FROM (SELECT order_id, sum(amount) AS total FROM shop.order_items GROUP BY order_id) s WHERE s.order_id = o.id;
UPDATE shop.accounts a SET orders = c.n
	FROM (SELECT account_id, count(*) AS n FROM shop.orders GROUP BY account_id) c WHERE c.account_id = a.id;
INSERT INTO shop.events (account_id, at, kind, payload)
	SELECT 1 + i %% %[1]d, timestamptz '2025-01-01 00:00+00' + (i %% 364) * interval '1 day', 'kind ' || i %% 9,
		jsonb_build_object('i', i)
	FROM generate_series(1, %[1]d * 10) i;
INSERT INTO shop.documents (number, title, tags, body, rating, revised)
	SELECT d, 'title ' || d, ARRAY['a', 'tag ' || d %% 5],
		(SELECT string_agg(decode(md5(d || '/' || n), 'hex'), '') FROM generate_series(1, 300) n), d / 7.0, d * interval '1 hour'
	FROM generate_series(1, least(%[1]d, 400)) d`

// Setup makes the schema shop, its rows and the ledger. The role of conn becomes
// their owner; it needs CREATE on the database and nothing else. Nothing is left
// behind by a Setup that fails.
func (s Shop) Setup(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("make schema shop: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for _, part := range []string{
		shopTables,
		fmt.Sprintf(shopRows, s.accounts()),
		shopRest,
		history.LedgerDDL(s.Ledger()),
	} {
		if _, err := tx.Conn().PgConn().Exec(ctx, part).ReadAll(); err != nil {
			return fmt.Errorf("make schema shop: %w", err)
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("make schema shop: %w", err)
	}
	if _, err := conn.Exec(ctx, "ANALYZE"); err != nil {
		return fmt.Errorf("analyze schema shop: %w", err)
	}
	return nil
}
