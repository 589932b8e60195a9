-- What only a superuser can make.
CREATE TYPE kind.shell;
COMMENT ON TYPE kind.shell IS 'never finished';
CREATE TYPE kind.base_type;
CREATE FUNCTION kind.base_in(cstring) RETURNS kind.base_type LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION kind.base_out(kind.base_type) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE kind.base_type (INTERNALLENGTH = variable, INPUT = kind.base_in, OUTPUT = kind.base_out, ALIGNMENT = int4, STORAGE = extended, DEFAULT = 'nothing', CATEGORY = 'U', PREFERRED = false, DELIMITER = ';', COLLATABLE = true);
CREATE TABLE kind.of_base (a kind.base_type, b kind.base_type[]);
INSERT INTO kind.of_base VALUES ('some; text', ARRAY['a', 'b;c', NULL]::kind.base_type[]), (NULL, '{}');
CREATE FUNCTION kind.sealed(integer) RETURNS integer LANGUAGE sql LEAKPROOF AS 'SELECT $1';
CREATE CAST (kind.base_type AS text) WITHOUT FUNCTION;

CREATE OPERATOR FAMILY kind.family USING btree;
CREATE OPERATOR CLASS kind.again FOR TYPE integer USING btree FAMILY kind.family AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 pg_catalog.btint4cmp(integer, integer);
ALTER OPERATOR FAMILY kind.family USING btree ADD OPERATOR 3 = (integer, bigint), FUNCTION 1 (integer, bigint) pg_catalog.btint48cmp(integer, bigint);
COMMENT ON OPERATOR CLASS kind.again USING btree IS 'once more';
CREATE OPERATOR FAMILY kind.lonely USING hash;
CREATE INDEX signed_again ON kind.signed (id kind.again);

CREATE ACCESS METHOD heap_two TYPE TABLE HANDLER heap_tableam_handler;
CREATE ACCESS METHOD btree_two TYPE INDEX HANDLER bthandler;
COMMENT ON ACCESS METHOD heap_two IS 'the same again';
CREATE TABLE kind.in_heap_two (id integer PRIMARY KEY, v text) USING heap_two;
INSERT INTO kind.in_heap_two SELECT n, 'v' || n FROM generate_series(1, 500) n;
CREATE MATERIALIZED VIEW kind.view_in_heap_two USING heap_two AS SELECT count(*) AS n FROM kind.in_heap_two;

CREATE TEXT SEARCH PARSER kind.parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, HEADLINE = prsd_headline, LEXTYPES = prsd_lextype);
CREATE TEXT SEARCH TEMPLATE kind.template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY kind.of_template (TEMPLATE = kind.template);
CREATE TEXT SEARCH CONFIGURATION kind.of_parser (PARSER = kind.parser);
COMMENT ON TEXT SEARCH PARSER kind.parser IS 'a parser';

CREATE FUNCTION kind.lang_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION kind.lang_inline(internal) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION kind.lang_validator(oid) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE kindlang HANDLER kind.lang_handler INLINE kind.lang_inline VALIDATOR kind.lang_validator;
COMMENT ON LANGUAGE kindlang IS 'another name';
CREATE FUNCTION kind.in_kindlang() RETURNS integer LANGUAGE kindlang AS 'BEGIN RETURN 1; END';
CREATE TRANSFORM FOR integer LANGUAGE kindlang (FROM SQL WITH FUNCTION pg_catalog.prsd_lextype(internal), TO SQL WITH FUNCTION pg_catalog.int4recv(internal));
COMMENT ON TRANSFORM FOR integer LANGUAGE kindlang IS 'to and fro';
GRANT USAGE ON LANGUAGE kindlang TO cfrole_reader;

CREATE FOREIGN DATA WRAPPER kindwrapper OPTIONS (debug 'true');
CREATE SERVER kindserver TYPE 'x' VERSION '1; 2' FOREIGN DATA WRAPPER kindwrapper OPTIONS (host 'it''s');
CREATE USER MAPPING FOR cfrole_reader SERVER kindserver OPTIONS (secret 'user''s');
CREATE USER MAPPING FOR PUBLIC SERVER kindserver;
CREATE FOREIGN TABLE kind.far (id integer OPTIONS (column_name 'x') NOT NULL, v text DEFAULT 'v', CONSTRAINT far_id CHECK (id > 0)) SERVER kindserver OPTIONS (table_name 'far; away');
CREATE FOREIGN TABLE kind.event_far PARTITION OF kind.hollow FOR VALUES FROM (0) TO (10) SERVER kindserver;
GRANT USAGE ON FOREIGN DATA WRAPPER kindwrapper TO cfrole_app;
GRANT USAGE ON FOREIGN SERVER kindserver TO cfrole_reader;
GRANT SELECT ON kind.far TO cfrole_reader;
COMMENT ON FOREIGN TABLE kind.far IS 'away';
CREATE TRIGGER far_note AFTER INSERT ON kind.far FOR EACH ROW EXECUTE FUNCTION kind.note();

CREATE FUNCTION kind.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER kind_ddl ON ddl_command_end WHEN TAG IN ('CREATE SERVER', 'DROP SERVER') EXECUTE FUNCTION kind.on_ddl();
CREATE EVENT TRIGGER kind_off ON sql_drop EXECUTE FUNCTION kind.on_ddl();
ALTER EVENT TRIGGER kind_off DISABLE;
COMMENT ON EVENT TRIGGER kind_ddl IS 'an event trigger';
CREATE PUBLICATION pub_every FOR ALL TABLES;
