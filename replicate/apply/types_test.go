package apply_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestTypesTravelAsText(t *testing.T) {
	check(t, `CREATE TYPE mood AS ENUM ('sad', 'so so', 'hap"py'); CREATE TYPE pair AS (a int, b text);
		CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN moods AS mood[];
		CREATE TABLE ty (id bigint PRIMARY KEY, m mood, ms mood[], c pair, cs pair[], r int4range, tsr tstzrange, mr int4multirange,
			a int[], ta text[], aa int[][], j json, jb jsonb, n numeric, n2 numeric(10,2), f float8, f4 float4, ch char(8), vc varchar(10), one "char",
			b bytea, bo bool, i interval, ts timestamptz, d date, ti time, tz timetz, u uuid, ip inet, x xml, bi bit(5), vb varbit, rc regclass,
			p positive, md moods, mo money, tv tsvector, nm name, po point, l pg_lsn, mac macaddr)`,
		`INSERT INTO ty (id, vc) VALUES (1, 'a'), (2, 'b')`, `
		INSERT INTO ty VALUES (3, 'so so', '{sad,"so so",NULL,"hap\"py"}', '(1,"a,b\"")', ARRAY[(1,'x')::pair, (NULL,'')::pair], '[1,5)', '[2020-01-01,)', '{[1,2),[5,9)}',
			'{1,NULL,3}', ARRAY['', 'NULL', 'a"b\c', NULL, '{}'], '{{1,2},{3,4}}', '{"a" :  1, "a":2}', '{"b": [1, null]}', 1.10, 12.30, 'NaN', 0.1, 'ab', 'vv', 'x',
			'\x00ff5c', true, '1 mon -2 days 03:04:05.6', '2020-02-28 10:00+03', '0044-03-15 BC', '23:59:59.999999', '10:00+05:30', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1', '<a>b</a>',
			'10101', '111', 'pg_class', 5, '{sad}', 12.34, 'a b:3', 'nm', '(1.5,-0)', '1/AB', '08:00:2b:01:02:03');
		UPDATE ty SET ch = 'zz', bo = false, f = 'infinity', ts = 'infinity', r = 'empty', n = 'NaN', ip = '::1/128', m = 'sad' WHERE id = 1;
		UPDATE ty SET cs = '{}', j = 'null', d = '-infinity', i = '-1 day', one = '' WHERE id = 2`, "ty")
}

func TestIdentityFullWithDuplicatesAndNulls(t *testing.T) {
	check(t, `CREATE TABLE f (a int, b text, j json, x float8, c char(4), g int); ALTER TABLE f REPLICA IDENTITY FULL`,
		`INSERT INTO f SELECT 1, NULL, '{"k": 1}', 0.1, 'ab', 1 FROM generate_series(1, 4); INSERT INTO f VALUES (NULL, NULL, NULL, NULL, NULL, NULL), (2, '', '[]', 'NaN', '', 2), (2, '', '[]', 'NaN', '', 2)`, `
		DELETE FROM f WHERE ctid = (SELECT ctid FROM f WHERE a = 1 LIMIT 1);
		UPDATE f SET b = 'now' WHERE ctid = (SELECT ctid FROM f WHERE a = 1 LIMIT 1);
		UPDATE f SET g = 3 WHERE a IS NULL; UPDATE f SET g = g WHERE a = 2;
		DELETE FROM f WHERE ctid = (SELECT ctid FROM f WHERE a = 2 LIMIT 1);
		INSERT INTO f VALUES (9, 'nine', '1', 1, '9', 9), (9, 'nine', '1', 1, '9', 9); UPDATE f SET a = 10 WHERE a = 9; DELETE FROM f WHERE a = 10 AND ctid = (SELECT max(ctid) FROM f WHERE a = 10)`, "f")
}

func TestIdentityFullUsesThePrimaryKeyAndOldToast(t *testing.T) {
	r := check(t, `CREATE TABLE f (id int PRIMARY KEY, n int, doc text); ALTER TABLE f REPLICA IDENTITY FULL; ALTER TABLE f ALTER doc SET STORAGE EXTERNAL`,
		`INSERT INTO f SELECT i, i, repeat('0123456789', 4000) || i FROM generate_series(1, 6) i`,
		`UPDATE f SET n = 0 WHERE id < 4; UPDATE f SET id = 60 WHERE id = 6; DELETE FROM f WHERE id = 5`, "f")
	require.Zero(t, r.Status().Replays)
}

func TestIdentityUsingIndex(t *testing.T) {
	check(t, `CREATE TABLE ix (a int, code text NOT NULL, n int); CREATE UNIQUE INDEX ix_code ON ix (code); ALTER TABLE ix REPLICA IDENTITY USING INDEX ix_code`,
		`INSERT INTO ix SELECT i, 'c' || i, i FROM generate_series(1, 9) i`,
		`UPDATE ix SET n = 0 WHERE a = 1; UPDATE ix SET code = 'new' WHERE a = 2; DELETE FROM ix WHERE a = 3; INSERT INTO ix VALUES (NULL, 'c3', 1)`, "ix")
}

func TestKeysWhoseTextIsNotUnique(t *testing.T) {
	check(t, `CREATE TABLE nk (id numeric PRIMARY KEY, v int); CREATE TABLE fk (id float8, iv interval, v int, PRIMARY KEY (id, iv)); CREATE TABLE bk (id char(6) PRIMARY KEY, v int)`,
		`INSERT INTO nk VALUES (1.0, 1), (2.50, 1), (100, 1); INSERT INTO fk VALUES (0, '1 day', 1), (1.5, '1 h', 1); INSERT INTO bk VALUES ('a', 1), ('b', 1)`, `
		BEGIN; UPDATE nk SET v = 2 WHERE id = 1; UPDATE nk SET id = 1.000, v = 3 WHERE id = 1; UPDATE nk SET v = v + 1 WHERE id = 1; DELETE FROM nk WHERE id = 2.5; INSERT INTO nk VALUES (2.5, 9); UPDATE nk SET v = 8 WHERE id = 100; COMMIT;
		BEGIN; UPDATE fk SET id = '-0', v = 2 WHERE id = 0; UPDATE fk SET v = v + 1; UPDATE fk SET iv = '24 h' WHERE id = 0; DELETE FROM fk WHERE id = 1.5; INSERT INTO fk VALUES (1.5, '60 min', 7); COMMIT;
		BEGIN; UPDATE bk SET v = 2; DELETE FROM bk WHERE id = 'a'; INSERT INTO bk VALUES ('a', 4); UPDATE bk SET v = 5; COMMIT`, "nk", "fk", "bk")
}

func TestGeneratedColumnsAreComputed(t *testing.T) {
	check(t, `CREATE TABLE g (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b text)`, `INSERT INTO g VALUES (1, 1, DEFAULT, 'x')`,
		`INSERT INTO g VALUES (2, 5, DEFAULT, 'y'); UPDATE g SET a = 7 WHERE id = 1`, "g")
}

func TestIdentityAlways(t *testing.T) {
	check(t, `CREATE TABLE ia (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int); CREATE TABLE ib (k int PRIMARY KEY, id int GENERATED ALWAYS AS IDENTITY, v int)`,
		`INSERT INTO ia (v) SELECT 1 FROM generate_series(1, 5); INSERT INTO ib (k, v) VALUES (1, 1), (2, 2)`,
		`INSERT INTO ia (v) VALUES (6); UPDATE ia SET v = 9; DELETE FROM ia WHERE id = 2; UPDATE ia SET id = DEFAULT WHERE id = 3; UPDATE ib SET v = 5 WHERE k = 1; UPDATE ib SET k = 20 WHERE k = 2`, "ia", "ib")
}

func TestColumnsInAnotherOrderAndOnlyKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE o (a int PRIMARY KEY, gone int, b text, c int); ALTER TABLE o DROP gone; CREATE TABLE k (a int, b int, PRIMARY KEY (b, a)); CREATE TABLE nocol ()`, `INSERT INTO o VALUES (1, 'x', 2); INSERT INTO k VALUES (1, 2)`)
	pgtest.Exec(t, w.dst, `DROP TABLE o; CREATE TABLE o (c int, b text, a int PRIMARY KEY); INSERT INTO o VALUES (2, 'x', 1)`)
	r := w.follow()
	w.do(`UPDATE o SET b = 'y'; INSERT INTO o VALUES (2, 'z', 3); UPDATE k SET a = a; UPDATE k SET a = 5; INSERT INTO k VALUES (7, 8); INSERT INTO nocol DEFAULT VALUES; INSERT INTO nocol DEFAULT VALUES`)
	w.drain(r)
	w.same("k", "nocol")
	require.Equal(t, rows(t, w.src, "o"), pgtest.Value(t, w.dst, `SELECT string_agg((a, b, c)::text, E'\n' ORDER BY a) FROM o`))
}
