-- What the scripts read. It is made once and copied as a template, so that the
-- OIDs in both databases are the same.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nested AS (p pair, m mood[], d date);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TABLE numbers (n int PRIMARY KEY, word text NOT NULL, m mood, CONSTRAINT small CHECK (n < 1000));
INSERT INTO numbers VALUES (1, 'one', 'sad'), (2, 'two', 'ok'), (3, 'three', NULL);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES numbers DEFERRABLE, p positive);
CREATE TABLE sink (id int, v text, b bytea, at timestamptz);
CREATE TABLE none ();
INSERT INTO none DEFAULT VALUES;
INSERT INTO none DEFAULT VALUES;
DO $$ BEGIN EXECUTE 'CREATE TABLE wide (' || (SELECT string_agg('c' || n || ' int DEFAULT ' || n, ', ') FROM generate_series(1, 1600) n) || ')'; END $$;
INSERT INTO wide DEFAULT VALUES;
CREATE TABLE big (id int, v text);
ALTER TABLE big ALTER v SET STORAGE EXTERNAL;
INSERT INTO big SELECT n, repeat(chr(64 + n), 1048576) FROM generate_series(1, 5) n;
CREATE SEQUENCE s;
CREATE FUNCTION complain(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	RAISE EXCEPTION 'complaint: %', $1 USING DETAIL = 'the detail', HINT = 'the hint', ERRCODE = 'XX123',
		COLUMN = 'col', CONSTRAINT = 'con', DATATYPE = 'dat', TABLE = 'tab', SCHEMA = 'sch';
END $$;
CREATE FUNCTION talk() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
	RAISE DEBUG 'debug'; RAISE LOG 'log'; RAISE INFO 'info'; RAISE NOTICE 'notice, é and %', 'filled';
	RAISE WARNING USING MESSAGE = 'warning', DETAIL = 'd', HINT = 'h', ERRCODE = '01ABC', COLUMN = 'c', CONSTRAINT = 'n', DATATYPE = 't', TABLE = 'r', SCHEMA = 's';
	RETURN 1;
END $$;
CREATE FUNCTION outs(OUT a int, OUT b text, OUT c pair) LANGUAGE sql AS $$ SELECT 1, 'b', ROW(2, 'c')::pair $$;
CREATE PROCEDURE steps() LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'step'; COMMIT; RAISE NOTICE 'step'; END $$;
CREATE VIEW seen AS SELECT n, word FROM numbers WHERE n < 3 WITH CHECK OPTION;
CREATE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% %', TG_OP, TG_WHEN; RETURN NEW; END $$;
CREATE TRIGGER react BEFORE INSERT OR UPDATE ON child FOR EACH ROW EXECUTE FUNCTION react();
