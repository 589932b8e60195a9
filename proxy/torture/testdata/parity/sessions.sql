BEGIN
----
SAVEPOINT a
----
INSERT INTO sink (id) VALUES (1)
----
SELECT 1/0
----
SELECT 1
----
ROLLBACK TO a
----
RELEASE a
----
SELECT count(*) FROM sink
----
COMMIT
----
BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY
----
INSERT INTO sink (id) VALUES (1)
----
END
----
BEGIN
----
BEGIN
----
COMMIT
----
COMMIT
----
BEGIN; DECLARE c SCROLL CURSOR WITHOUT HOLD FOR SELECT n, word FROM numbers ORDER BY n
----
FETCH 2 FROM c
----
FETCH BACKWARD 1 FROM c
----
MOVE LAST FROM c
----
FETCH ALL FROM c
----
FETCH ABSOLUTE 0 FROM c
----
DECLARE b BINARY CURSOR FOR SELECT n, word, m FROM numbers ORDER BY n
----
FETCH 2 FROM b
----
UPDATE numbers SET word = word WHERE CURRENT OF c
----
ROLLBACK
----
DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 5)
----
-- stays: a cursor WITH HOLD
FETCH 3 FROM h
----
-- stays: a cursor WITH HOLD
CLOSE h
----
PREPARE p (int, text) AS SELECT $1 + 1, $2 || '!'
----
EXECUTE p (1, 'a')
----
EXECUTE p ('x', 'a')
----
DEALLOCATE p
----
LISTEN parity
----
NOTIFY parity, 'é'
----
BEGIN; NOTIFY parity, 'a'; NOTIFY parity, 'a'; NOTIFY parity, 'b'; COMMIT
----
SELECT pg_notify('parity', repeat('p', 7999))
----
SELECT pg_notify('parity', repeat('p', 8000))
----
UNLISTEN parity
----
NOTIFY parity, 'nobody hears'
----
SET application_name = 'parity é'
----
SET client_encoding = 'LATIN1'
----
SELECT 'é'
----
RESET client_encoding
----
SET client_encoding = 'SQL_ASCII'
----
SET client_encoding = UTF8
----
SET standard_conforming_strings = off
----
SELECT 'a\\b'
----
RESET standard_conforming_strings
----
SET TimeZone = 'Europe/Berlin'; SET DateStyle = ISO; SET IntervalStyle = postgres_verbose
----
SELECT '2026-07-01 00:00+00'::timestamptz, '1 day'::interval
----
SET LOCAL TimeZone = 'UTC'
----
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
----
INSERT INTO sink (id) VALUES (1)
----
RESET ALL
----
SET default_transaction_read_only = off
----
SET parity.custom = 'x'
----
SELECT current_setting('parity.custom'), current_setting('parity.none', true)
----
SELECT pg_advisory_lock(1), pg_try_advisory_lock(2), pg_advisory_unlock(1), pg_advisory_unlock(99)
----
SELECT pg_advisory_unlock_all()
----
DISCARD ALL
----
SET ROLE none
----
DELETE FROM sink
