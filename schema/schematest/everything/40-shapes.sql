-- Shapes of tables.
CREATE TABLE kind.no_columns ();
INSERT INTO kind.no_columns SELECT FROM generate_series(1, 3);
CREATE TABLE kind.all_dropped (a integer, b text);
INSERT INTO kind.all_dropped VALUES (1, 'x'), (2, 'y');
ALTER TABLE kind.all_dropped DROP COLUMN a, DROP COLUMN b;
CREATE TABLE kind.only_generated (a integer GENERATED ALWAYS AS (1 + 1) STORED);
INSERT INTO kind.only_generated DEFAULT VALUES;
CREATE TABLE kind.empty (id integer PRIMARY KEY, v text);
DO $$
BEGIN
  EXECUTE (SELECT 'CREATE TABLE kind.wide (' || string_agg('c' || n || CASE n % 3 WHEN 0 THEN ' integer' WHEN 1 THEN ' boolean' ELSE ' text' END, ', ') || ')' FROM generate_series(1, 1600) n);
  EXECUTE (SELECT 'INSERT INTO kind.wide (' || string_agg('c' || n, ', ') || ') VALUES (' ||
    string_agg(CASE n % 3 WHEN 0 THEN n::text WHEN 1 THEN 'true' ELSE CASE WHEN n < 800 THEN '''x''' ELSE 'NULL' END END, ', ' ORDER BY n) || ')' FROM generate_series(1, 1600) n);
  INSERT INTO kind.wide DEFAULT VALUES;
END $$;
-- Columns that were dropped between others and filled by default.
CREATE TABLE kind.scarred (a integer, b text, c integer, d text);
INSERT INTO kind.scarred SELECT n, 'b' || n, n, 'd' || n FROM generate_series(1, 50) n;
ALTER TABLE kind.scarred DROP COLUMN b, DROP COLUMN a;
ALTER TABLE kind.scarred ADD COLUMN e text DEFAULT 'as if it had been there', ADD COLUMN b timestamptz DEFAULT '2001-01-01';
INSERT INTO kind.scarred SELECT n, 'd', NULL, NULL FROM generate_series(51, 60) n;
-- No key, with rows that are the same.
CREATE TABLE kind.heap (a integer, b text);
INSERT INTO kind.heap SELECT n % 3, repeat('same ', 400) FROM generate_series(1, 300) n;
INSERT INTO kind.heap VALUES (NULL, NULL), (NULL, NULL);
DELETE FROM kind.heap WHERE a = 1; -- holes
-- Keys of both signs and at both ends.
CREATE TABLE kind.signed (id integer PRIMARY KEY, big bigint UNIQUE);
INSERT INTO kind.signed VALUES (-1, -1), (0, 0), (-2147483648, -9223372036854775808), (2147483647, 9223372036854775807), (1, NULL), (-2, NULL);
