INSERT INTO kind.customer (mail, name, feeling, tags, two, price, during, vector)
  SELECT 'm' || n || '@x', 'name ' || n, (enum_range(NULL::kind.mood))[1 + n % 5], kind.hstore('k', n::text), ROW(n, 'b', 'sad')::kind.pair, n, kind.span(n, n + 0.5), to_tsvector('english', 'name ' || n)
  FROM generate_series(1, 200) n;
INSERT INTO kind.orders (customer, during, room, note) SELECT id, kind.span(n, n + 0.5), 1, 'note ' || n FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM kind.customer) c;
INSERT INTO kind.loose SELECT n, 'code ' || n FROM generate_series(1, 20) n;
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO kind.egg VALUES (1, 1);
INSERT INTO kind.hen VALUES (1, 1);
COMMIT;
INSERT INTO kind.base SELECT n, 'base' FROM generate_series(1, 10) n;
INSERT INTO kind.derived SELECT n, 'derived', n, n FROM generate_series(1, 10) n;
INSERT INTO kind.typed VALUES (1, 'x', 'happy');
INSERT INTO kind.event (id, at, region, customer)
  SELECT n, '2023-06-01'::date + n, (ARRAY['eu', 'it''s', 'us', 'x'])[1 + n % 4], -1 + 7 * (n % 100) FROM generate_series(1, 900) n;
INSERT INTO kind.detail SELECT id, at, region FROM kind.event WHERE id % 9 = 0;
INSERT INTO kind.audit VALUES ('kept', '2000-01-01');
INSERT INTO kind.scratch (v) SELECT 'v' || n FROM generate_series(1, 20) n;
INSERT INTO "Odd ""name""; -- x"."two
lines" VALUES (1, 'x'), (2, NULL);
INSERT INTO "Odd ""name""; -- x"."таблица" VALUES ('имя', 1, true, '\', '''', '$1', '%s');
INSERT INTO "Odd ""name""; -- x"."select" VALUES (1, 2, 'u', 'e', 'a', 'n');
INSERT INTO "Odd ""name""; -- x".uses VALUES ('a''b', ARRAY['c"d', E'e\nf', 'g\h']::"Odd ""name""; -- x"."Type"[]);
INSERT INTO "PG_looks_reserved".t VALUES (1, 'sad');
SELECT nextval('kind.free') FROM generate_series(1, 3);
SELECT setval('kind.huge', 42, false);
REFRESH MATERIALIZED VIEW kind.z_first;
REFRESH MATERIALIZED VIEW kind.a_second;
