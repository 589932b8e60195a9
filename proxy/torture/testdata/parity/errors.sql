SELECT 1/0
----
SELEC 1
----
SELECT nonsense FROM numbers
----
SELECT * FROM nowhere
----
SELECT nothere(1)
----
SELECT 'a' + 1
----
SELECT 'x'::int
----
SELECT 1 WHERE 'é' = unaccounted
----
INSERT INTO numbers VALUES (1, 'again', 'ok')
----
INSERT INTO numbers VALUES (1000, 'large', 'ok')
----
INSERT INTO numbers VALUES (9, NULL, 'ok')
----
INSERT INTO numbers VALUES (9, 'nine', 'furious')
----
INSERT INTO child VALUES (1, 99, 1)
----
INSERT INTO child VALUES (1, 1, -1)
----
INSERT INTO seen VALUES (7, 'seven')
----
SELECT complain('é')
----
SELECT talk()
----
SET client_min_messages = debug1
----
SELECT talk()
----
RESET client_min_messages
----
SET client_min_messages = error
----
SELECT talk()
----
RESET client_min_messages
----
DO $$ BEGIN RAISE division_by_zero; END $$
----
DO $$ BEGIN RAISE SQLSTATE '22012' USING MESSAGE = 'by state'; END $$
----
DO $$ BEGIN RAISE EXCEPTION ''; END $$
----
DO $$ BEGIN RAISE EXCEPTION E'two\nlines'; END $$
----
DO $$ BEGIN ASSERT false, 'asserted'; END $$
----
DO $$ DECLARE x int; BEGIN x := 1/0; EXCEPTION WHEN division_by_zero THEN RAISE NOTICE 'caught %', SQLERRM; END $$
----
DO $$ BEGIN PERFORM complain('inner'); EXCEPTION WHEN OTHERS THEN RAISE; END $$
----
CALL steps()
----
BEGIN
----
CALL steps()
----
SELECT 1
----
ROLLBACK
----
COMMIT
----
ROLLBACK TO nowhere
----
SET nonsense = 1
----
SET work_mem = 'much'
----
DROP TABLE nowhere
----
DROP TABLE IF EXISTS nowhere
----
CREATE TABLE IF NOT EXISTS numbers (n int)
----
DROP TABLE numbers
----
SELECT repeat('x', 2000000000)
----
SELECT pg_catalog.set_config('search_path', '', false); SELECT * FROM numbers
----
RESET search_path
----
SELECT * FROM numbers WHERE n = $1
----
EXECUTE nowhere
----
FETCH FROM nowhere
----
LOCK TABLE numbers
----
GRANT ALL ON nowhere TO nobody
----
SET statement_timeout = 1500
----
SELECT pg_sleep(600)
----
RESET statement_timeout
----
SELECT 'still here'
