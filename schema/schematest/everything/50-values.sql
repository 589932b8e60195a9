-- Values that are easily lost on the way.
CREATE TABLE kind.numbers_odd (f4 real, f8 double precision, n numeric, n2 numeric(1000, 500), m money, o oid, x xid, t tid, l pg_lsn);
INSERT INTO kind.numbers_odd VALUES
  ('NaN', 'NaN', 'NaN', NULL, '-$92,233,720,368,547,758.08', 4294967295, '4294967295', '(4294967295,65535)', 'FFFFFFFF/FFFFFFFF'),
  ('Infinity', '-Infinity', 'Infinity', 0, 0, 0, '0', '(0,0)', '0/0'),
  ('-0', '-0', '-Infinity', 1e-500, '0.01', 1, '3', '(1,1)', '0/1'),
  (1.17549435e-38, 2.2250738585072014e-308, 0.1, 9e499, NULL, NULL, NULL, NULL, NULL),
  (3.4028235e38, 0.1::float8 + 0.2, 1e1000 - 1, NULL, NULL, NULL, NULL, NULL, NULL),
  (1.401298464324817e-45, 5e-324, 123456789.0000, -1, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE kind.times (d date, ts timestamp, tz timestamptz, t time, ttz timetz, i interval, r tsrange, mr tstzmultirange);
INSERT INTO kind.times VALUES
  ('infinity', 'infinity', 'infinity', '24:00', '24:00-15:59:59', '178956970 years 7 mons 2147483647 days', '(,)', '{}'),
  ('-infinity', '-infinity', '-infinity', '00:00', '00:00+15:59:59', '-178956970 years', 'empty', '{[2000-01-01,2000-01-02),(2001-01-01,)}'),
  ('4714-11-24 BC', '4714-11-24 00:00:00 BC', '4714-11-24 00:00:00+00 BC', '23:59:59.999999', '23:59:59.999999+00', '1 mon -1 day 00:00:00.000001', '[-infinity,infinity]', NULL),
  ('5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', NULL, NULL, '-00:00:00.000001', NULL, NULL),
  ('0001-12-31 BC', '0044-03-15 12:00 BC', '1883-11-18 12:03:57.5-05', '12:00', '12:00+05:30', 'P0Y', '["2000-01-01 00:00","infinity")', NULL);
CREATE TABLE kind.bytes (id integer PRIMARY KEY, b bytea, c "char", n name, t text, v varchar(3), p char(5), bits bit varying, fixed bit(3));
INSERT INTO kind.bytes SELECT 0, string_agg(set_byte('\x00', 0, n), '' ORDER BY n), '', '', '', '', '', '', B'101' FROM generate_series(0, 255) n;
INSERT INTO kind.bytes SELECT n, set_byte('\x00', 0, n), CASE WHEN n < 128 THEN chr(n)::"char" END, 'n' || n, chr(n), chr(n), chr(n), n::bit(9)::text::varbit, (n % 8)::bit(3) FROM generate_series(1, 255) n;
INSERT INTO kind.bytes VALUES
  (300, '', '\', '\', '\N', '\.', '\.', '', NULL), (301, NULL, NULL, NULL, E'\\N', NULL, NULL, NULL, NULL),
  (302, '\x', 'x', 'x', E'tab\tnew\nline\rreturn\bback\fform\vvertical', E'\n\r\t', E'\\\\', B'', B'000'),
  (303, NULL, NULL, NULL, E'\\.\n\\.\n', NULL, NULL, NULL, NULL),
  (304, NULL, NULL, NULL, '한국어 العربية 𝔘𝔫𝔦 ' || chr(1114111) || chr(65279) || 'e' || chr(769), NULL, NULL, NULL, NULL);
CREATE TABLE kind.nested (a integer[], b text[][], c kind.pair[], d kind.mood[], e kind.mails, f jsonb, g json, h xml, i kind.hstore, j kind.spans, k int4multirange, "l" kind.empty_enum[]);
INSERT INTO kind.nested VALUES
  ('[-1:1]={1,NULL,3}', '{{a,"b,c"},{"NULL",NULL},{"\\\\","\""}}', ARRAY[ROW(1, 'x', 'sad')::kind.pair, NULL], '{sad,""}', '{a@b,c@d}',
   '{"a": [1, 2.50, null, "\u00e9\\"], "": {"n": 1e400}}', '{"b":1, "a" : 2,"a":3}', '<a b="c">text &amp; more</a>', 'a=>NULL, "b c"=>"d\"e"', '{[1,2),[3.5,Infinity)}', '{[1,5),[7,)}', '{}'),
  ('{}', '{}', '{}', '{}', '{}', 'null', ' [1 , 2] ', '', '', '{}', '{}', NULL), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE kind.reg (c regclass, t regtype, p regprocedure, r regrole, n regnamespace, o regoperator, f regconfig, d regdictionary, i inet, ci cidr, ma macaddr, m8 macaddr8, u uuid, q tsquery, w tsvector, pt point, poly polygon, jp jsonpath, x8 xid8, snap pg_snapshot);
INSERT INTO kind.reg VALUES ('kind.customer', 'kind.mood', 'kind.two(integer,integer)', 'pg_monitor', 'kind', 'kind.<<(kind.pair,kind.pair)', 'kind.words', 'kind.stem',
  '::ffff:1.2.3.4/128', '10/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '!a & (b <-> c:*)', 'a:1A ''it''''s'':2,3B', '(NaN,-Infinity)', '((0,0),(1,1e300),(-0,2))',
  '$.a[*] ? (@ > 1)', '18446744073709551615', '10:20:10,14,15');
INSERT INTO kind.reg VALUES (NULL);
CREATE TABLE kind.long (id integer PRIMARY KEY, plain text, packed text, out_of_line bytea);
ALTER TABLE kind.long ALTER COLUMN plain SET STORAGE EXTERNAL;
INSERT INTO kind.long SELECT n, repeat(md5(n::text), 3000), repeat('x', 100000 * n), (SELECT string_agg(sha256((n || '/' || k)::bytea), '') FROM generate_series(1, 400) k) FROM generate_series(1, 8) n;
