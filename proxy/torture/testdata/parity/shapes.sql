
----
;
----
-- only a comment
----
SELECT
----
SELECT FROM generate_series(1, 3)
----
SELECT * FROM none
----
SELECT * FROM numbers WHERE false
----
SELECT * FROM wide
----
SELECT * FROM wide, numbers
----
SELECT id, v FROM big ORDER BY id
----
SELECT string_agg(v, '') FROM big
----
SELECT n, 'row ' || n, n % 7 = 0, n / 3.0 FROM generate_series(1, 100000) n
----
SELECT 1; SELECT 2, 'two'; SELECT
----
SELECT 1; SELECT 1/0; SELECT 3
----
BEGIN; SELECT 1; COMMIT; SELECT 2
----
INSERT INTO sink (id) SELECT generate_series(1, 5); UPDATE sink SET v = 'u' WHERE id > 2; DELETE FROM sink WHERE id = 1
----
INSERT INTO sink (id, v) VALUES (7, 'seven') RETURNING id, v, 'returned'
----
UPDATE sink SET v = v RETURNING *
----
WITH d AS (DELETE FROM sink RETURNING id) SELECT count(*) FROM d
----
INSERT INTO child VALUES (1, 1, 1)
----
UPDATE child SET p = 2
----
TRUNCATE child
----
MERGE INTO sink USING (VALUES (1)) v(n) ON id = n WHEN NOT MATCHED THEN INSERT (id) VALUES (n)
----
DELETE FROM sink
----
EXPLAIN (COSTS OFF) SELECT 1
----
SHOW ALL
----
SHOW server_version
----
SELECT nextval('s'), currval('s'), lastval()
----
SELECT DISTINCT ON (m) * FROM numbers ORDER BY m, n
----
SELECT n, sum(n) OVER (ORDER BY n) FROM numbers
----
SELECT repeat('é', 16383), repeat('x', 32768), repeat('y', 65531)
