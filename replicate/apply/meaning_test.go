package apply_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// owned are types that a plain role makes, and casts from text that it makes for
// them. Each cast gives another value than the type's input function.
const owned = `
	CREATE TYPE temp AS (degrees int, scale text);
	CREATE FUNCTION to_temp(text) RETURNS temp LANGUAGE sql IMMUTABLE AS $$ SELECT ROW(-1, 'cast')::temp $$;
	CREATE TYPE mood AS ENUM ('sad', 'cast');
	CREATE FUNCTION to_mood(text) RETURNS mood LANGUAGE sql IMMUTABLE AS $$ SELECT 'cast'::mood $$;
	CREATE FUNCTION to_moods(text) RETURNS mood[] LANGUAGE sql IMMUTABLE AS $$ SELECT '{cast}'::mood[] $$;
	CREATE TYPE span AS RANGE (subtype = int4);
	CREATE FUNCTION to_span(text) RETURNS span LANGUAGE sql IMMUTABLE AS $$ SELECT '[7,8)'::span $$;
	CREATE DOMAIN chill AS temp;
	CREATE TABLE m (id int, t temp, x mood, xs mood[], s span, c chill, a int[], d date, n int, j jsonb, v varchar(9), b char(3), ts timestamptz, PRIMARY KEY (id, x, s));
	CREATE TABLE f (t temp, x mood, xs mood[], s span, a int[], d date, n int); ALTER TABLE f REPLICA IDENTITY FULL;
	CREATE TABLE k (t temp PRIMARY KEY, xs mood[], v int)`

const ownedCasts = `
	CREATE CAST (text AS temp) WITH FUNCTION to_temp(text) AS IMPLICIT;
	CREATE CAST (text AS mood) WITH FUNCTION to_mood(text) AS IMPLICIT;
	CREATE CAST (text AS mood[]) WITH FUNCTION to_moods(text) AS IMPLICIT;
	CREATE CAST (text AS span) WITH FUNCTION to_span(text) AS IMPLICIT`

// adminCasts are those that take a superuser, as some applications of another
// database's habits have them.
const adminCasts = `
	CREATE FUNCTION public.text_int(text) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT -1 $$;
	CREATE FUNCTION public.text_ints(text) RETURNS int[] LANGUAGE sql IMMUTABLE AS $$ SELECT ARRAY[-1] $$;
	CREATE FUNCTION public.text_big(text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT -1::bigint $$;
	CREATE FUNCTION public.text_oid(text) RETURNS oid LANGUAGE sql IMMUTABLE AS $$ SELECT 1::oid $$;
	CREATE FUNCTION public.text_lsn(text) RETURNS pg_lsn LANGUAGE sql IMMUTABLE AS $$ SELECT '0/1'::pg_lsn $$;
	CREATE FUNCTION public.text_date(text) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT '1900-01-01'::date $$;
	CREATE FUNCTION public.text_ts(text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT '1900-01-01 00:00:00+00'::timestamptz $$;
	CREATE FUNCTION public.text_jsonb(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '"cast"'::jsonb $$;
	CREATE CAST (text AS int) WITH FUNCTION public.text_int(text) AS IMPLICIT;
	CREATE CAST (text AS int[]) WITH FUNCTION public.text_ints(text) AS IMPLICIT;
	CREATE CAST (text AS bigint) WITH FUNCTION public.text_big(text) AS IMPLICIT;
	CREATE CAST (text AS oid) WITH FUNCTION public.text_oid(text) AS IMPLICIT;
	CREATE CAST (text AS pg_lsn) WITH FUNCTION public.text_lsn(text) AS IMPLICIT;
	CREATE CAST (text AS date) WITH FUNCTION public.text_date(text) AS IMPLICIT;
	CREATE CAST (text AS timestamptz) WITH FUNCTION public.text_ts(text) AS IMPLICIT;
	CREATE CAST (text AS jsonb) WITH FUNCTION public.text_jsonb(text) AS IMPLICIT`

const typedChanges = `
	INSERT INTO m VALUES (2, '(5,"a ""b"" \\ c")', 'sad', '{sad,NULL,sad}', '[1,5)', '(8,F)', '{{1,2},{3,NULL}}', '2020-02-29', 7, '{"a": "\" \\ \t"}', 'v', 'b', '2020-01-01 10:00+03');
	UPDATE m SET t = '(6,)', xs = '{}', d = '2021-01-01', a = '{9}', j = '[]', ts = 'infinity' WHERE id = 1;
	UPDATE m SET id = 3, x = 'cast', n = 9 WHERE id = 1;
	INSERT INTO m VALUES (4, NULL, 'sad', NULL, 'empty'), (5, NULL, 'sad', NULL, 'empty'); DELETE FROM m WHERE id = 4;
	DELETE FROM f WHERE n = 1; UPDATE f SET t = '(3,b)', xs = '{cast}', a = '{}' WHERE n = 2; INSERT INTO f VALUES ('(9,E'')', 'sad', '{}', '(,)', '{}', NULL, 3);
	UPDATE k SET v = 5 WHERE (t).degrees = 1; UPDATE k SET t = '(1,z)' WHERE (t).degrees = 2; DELETE FROM k WHERE (t).degrees = 3`

const fillTyped = `
	INSERT INTO m VALUES (1, '(1,C)', 'sad', '{sad}', '[1,2)', '(1,C)', '{1}', '2020-01-01', 1, '1', 'x', 'y', '2020-01-01');
	INSERT INTO f VALUES ('(1,a)', 'sad', '{sad,cast}', '[1,2)', '{1}', '2020-01-01', 1), ('(2,a)', 'sad', '{}', '[1,2)', '{1}', '2020-01-01', 2);
	INSERT INTO k VALUES ('(1,a)', '{sad}', 1), ('(2,b)', '{sad}', 1), ('(3,c)', '{sad}', 1)`

func TestCastsOfUsersAreNotUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, owned, fillTyped)
	pgtest.Exec(t, w.dst, ownedCasts)
	r := w.follow()
	w.do(typedChanges)
	w.drain(r)
	w.same("m", "f", "k")
	require.Zero(t, r.Status().Replays)
}

func TestCastsOfASuperuserForBuiltInTypesAreNotUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, owned, fillTyped)
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(w.target.Database())), adminCasts)
	r := w.follow()
	w.do(typedChanges)
	w.drain(r)
	w.same("m", "f", "k")
	require.Zero(t, r.Status().Replays)
}

// hijack makes a base type with an equality of its own, a domain of it, and for the domain an
// operator of the same name that a plain role may make, by which every value equals every other.
const hijack = `
	CREATE TYPE public.word;
	CREATE FUNCTION public.word_in(cstring) RETURNS public.word LANGUAGE internal IMMUTABLE STRICT AS 'textin';
	CREATE FUNCTION public.word_out(public.word) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
	CREATE TYPE public.word (INPUT = public.word_in, OUTPUT = public.word_out, LIKE = text);
	CREATE FUNCTION public.word_eq(public.word, public.word) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'byteaeq';
	CREATE FUNCTION public.word_lt(public.word, public.word) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'bytealt';
	CREATE FUNCTION public.word_cmp(public.word, public.word) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'byteacmp';
	CREATE OPERATOR public.= (LEFTARG = public.word, RIGHTARG = public.word, FUNCTION = public.word_eq, MERGES);
	CREATE OPERATOR public.< (LEFTARG = public.word, RIGHTARG = public.word, FUNCTION = public.word_lt);
	CREATE OPERATOR CLASS public.word_ops DEFAULT FOR TYPE public.word USING btree AS OPERATOR 1 public.<, OPERATOR 3 public.=, FUNCTION 1 public.word_cmp(public.word, public.word);
	CREATE FUNCTION public.all_same(public.word, public.word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
	CREATE DOMAIN public.login AS public.word;
	CREATE FUNCTION public.any_login(public.login, public.word) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
	CREATE OPERATOR public.= (LEFTARG = public.login, RIGHTARG = public.word, FUNCTION = public.any_login);
	CREATE FUNCTION public.to_word(text) RETURNS public.word LANGUAGE sql IMMUTABLE AS $$ SELECT 'cast'::public.word $$;
	CREATE CAST (text AS public.word) WITH FUNCTION public.to_word(text)`

func TestOperatorsOfUsersDoNotNameRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE here (id int PRIMARY KEY)`, `INSERT INTO here VALUES (1)`)
	for side, db := range map[pgtest.Kind]string{pgtest.Source: w.source.Database(), pgtest.Target: w.target.Database()} {
		pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, side).AdminDSN(db)), hijack)
	}
	const table = `CREATE TABLE l (who public.login PRIMARY KEY, n int); INSERT INTO l VALUES ('a', 1), ('b', 2), ('c', 3)`
	pgtest.Exec(t, w.src, table+`; ALTER PUBLICATION crossfade ADD TABLE l`)
	pgtest.Exec(t, w.dst, table)
	r := w.follow()
	w.do(`UPDATE l SET n = 9 WHERE who::text = 'b'; DELETE FROM l WHERE who::text = 'c'; UPDATE l SET who = 'd' WHERE who::text = 'a'`)
	w.drain(r)
	w.same("l")
	require.Zero(t, r.Status().Replays)
}

// TestSettingsOfDatabasesDoNotReachTheValues has each side write and read texts in
// ways of its own for everybody else.
func TestSettingsOfDatabasesDoNotReachTheValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE a (id int PRIMARY KEY, n int[], w text[], m money, x xml, c regclass, i interval);
		CREATE TABLE f (c regtype, m money, i interval); ALTER TABLE f REPLICA IDENTITY FULL`, `INSERT INTO a VALUES (1); INSERT INTO f VALUES ('"char"', 1.25, '-1 day 2:00')`)
	for kind, db := range map[pgtest.Kind]string{pgtest.Source: w.source.Database(), pgtest.Target: w.target.Database()} {
		admin := pgtest.Conn(t, pgtest.Shared(t, kind).AdminDSN(db))
		for _, set := range map[pgtest.Kind][]string{
			pgtest.Source: {"quote_all_identifiers = on", "IntervalStyle = sql_standard", "lc_monetary = 'C.UTF-8'", "search_path = pg_catalog, public", "xmloption = document"},
			pgtest.Target: {"array_nulls = off", "IntervalStyle = iso_8601", "TimeZone = 'Asia/Kathmandu'"},
		}[kind] {
			pgtest.Exec(t, admin, "ALTER DATABASE "+db+" SET "+set)
		}
	}
	r := w.follow()
	w.do(`INSERT INTO a VALUES (2, '{1,NULL}', '{NULL,"NULL"}', 12.34, '<a/>text', 'public.f', '-1 day 2:00'); UPDATE a SET n = '{NULL}' WHERE id = 1;
		UPDATE f SET m = 7; UPDATE f SET c = 'pg_class'; UPDATE f SET c = 'public.a'`)
	w.drain(r)
	w.same("a", "f")
}
