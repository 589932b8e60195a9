-- One object of every kind that pg_dump knows, in files that psql runs in order.
-- Those whose name begins with 9 hold what only a superuser can make. Tests put
-- names of their own in the place of cfrole_ and cfspace_.
CREATE SCHEMA kind;
CREATE SCHEMA kept AUTHORIZATION cfrole_app;
COMMENT ON SCHEMA kind IS 'one of each; ''quoted''';
CREATE EXTENSION hstore WITH SCHEMA kind;
COMMENT ON EXTENSION hstore IS 'a comment of our own';
CREATE EXTENSION citext WITH SCHEMA public;

CREATE TYPE kind.mood AS ENUM ('sad', 'o''k; fine', 'happy', '');
ALTER TYPE kind.mood ADD VALUE 'worried' AFTER 'sad';
CREATE TYPE kind.empty_enum AS ENUM ();
CREATE TYPE kind.pair AS (a integer, b text COLLATE "C", gone integer, "from" kind.mood);
ALTER TYPE kind.pair DROP ATTRIBUTE gone;
CREATE TYPE kind.no_attributes AS ();
COMMENT ON COLUMN kind.pair.b IS 'an attribute';
CREATE TYPE kind.span AS RANGE (subtype = pg_catalog.float8, subtype_diff = pg_catalog.float8mi, multirange_type_name = kind.spans);
CREATE DOMAIN kind.mail AS public.citext COLLATE "C" DEFAULT 'a@b' NOT NULL CONSTRAINT has_at CHECK (VALUE ~ '@');
COMMENT ON CONSTRAINT has_at ON DOMAIN kind.mail IS 'of a domain';
CREATE DOMAIN kind.late AS integer;
ALTER DOMAIN kind.late ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;
CREATE DOMAIN kind.mails AS kind.mail[];
CREATE COLLATION kind.plain FROM "C";
CREATE COLLATION kind.natural (provider = icu, locale = 'en-u-kn-true', deterministic = false);
CREATE CONVERSION kind.to_latin FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
CREATE DEFAULT CONVERSION kind.from_latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

CREATE FUNCTION kind.touch() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
  NEW.changed := '2000-01-01'; -- ; 'quote
  RETURN NEW;
END $f$;
CREATE FUNCTION kind.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION kind.plus(a integer, b integer DEFAULT 1, VARIADIC c integer[] DEFAULT '{}') RETURNS integer
  LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 7 AS 'SELECT $1 + $2';
CREATE FUNCTION kind.two(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 + $2';
CREATE FUNCTION kind.less(kind.pair, kind.pair) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1).a < ($2).a';
CREATE FUNCTION kind.more(kind.pair, kind.pair) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1).a > ($2).a';
CREATE FUNCTION kind.rows_of(OUT x integer, OUT y text) RETURNS SETOF record LANGUAGE sql STABLE ROWS 3 AS $$ VALUES (1, 'a'), (2, $q$b$q$) $$;
CREATE FUNCTION kind.table_of(lo integer) RETURNS TABLE (n integer, "select" text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = kind, pg_temp SET work_mem TO '8MB' AS
  $$ BEGIN RETURN QUERY SELECT lo, 'x'::text; END $$;
CREATE PROCEDURE kind.act(INOUT n integer) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; END $$;
CREATE FUNCTION kind.pair_text(kind.pair) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT ($1).a::text $$;
CREATE FUNCTION kind."quo""ted; (name)"() RETURNS text LANGUAGE sql AS $$ SELECT E'line\nbreak'::text $$;
COMMENT ON FUNCTION kind.plus(integer, integer, integer[]) IS 'adds';
CREATE AGGREGATE kind.total(integer) (SFUNC = kind.two, STYPE = integer, INITCOND = '0', PARALLEL = safe);
CREATE AGGREGATE kind.middle(ORDER BY integer) (SFUNC = kind.two, STYPE = integer, INITCOND = '0');
CREATE AGGREGATE kind.running(integer) (SFUNC = kind.two, STYPE = integer, MSFUNC = kind.two, MINVFUNC = pg_catalog.int4mi, MSTYPE = integer);
CREATE OPERATOR kind.<< (LEFTARG = kind.pair, RIGHTARG = kind.pair, FUNCTION = kind.less, COMMUTATOR = OPERATOR(kind.>>), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR kind.>> (LEFTARG = kind.pair, RIGHTARG = kind.pair, FUNCTION = kind.more, COMMUTATOR = OPERATOR(kind.<<));
CREATE OPERATOR kind.@#@ (RIGHTARG = kind.pair, FUNCTION = kind.pair_text);
COMMENT ON OPERATOR kind.@#@ (NONE, kind.pair) IS 'prefix';
CREATE CAST (kind.pair AS text) WITH FUNCTION kind.pair_text(kind.pair) AS ASSIGNMENT;
CREATE CAST (kind.mood AS kind.pair) WITH INOUT;
COMMENT ON CAST (kind.pair AS text) IS 'a cast';

CREATE TEXT SEARCH DICTIONARY kind.stem (TEMPLATE = pg_catalog.snowball, language = 'english', stopwords = 'english');
CREATE TEXT SEARCH CONFIGURATION kind.words (PARSER = pg_catalog."default");
ALTER TEXT SEARCH CONFIGURATION kind.words ADD MAPPING FOR asciiword, word WITH kind.stem, pg_catalog.simple;
COMMENT ON TEXT SEARCH CONFIGURATION kind.words IS 'words';
