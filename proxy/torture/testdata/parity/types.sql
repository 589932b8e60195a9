SELECT 1::int2, 2::int4, 3::int8, -1::int2, 32767::int2, (-2147483648)::int4, 9223372036854775807::int8
----
SELECT 1.5::float4, -0.0::float8, 'NaN'::float8, 'Infinity'::float4, '-Infinity'::float8, 1e-300::float8, 3.4028235e38::float4
----
SELECT 0::numeric, 'NaN'::numeric, 'Infinity'::numeric, 1.000::numeric(10,3), -123456789012345678901234567890.123456789::numeric, 1e100::numeric, 0.00001::numeric
----
SELECT true, false, NULL::bool, 't'::"char", 'name'::name, 'é€😀'::text, 'abc  '::char(5), 'v'::varchar(3), ''::text
----
SELECT '\x'::bytea, '\x00ff10'::bytea, decode(repeat('ab', 100), 'hex'), E'\\000\\001'::bytea
----
SET bytea_output = escape
----
SELECT '\x00ff5c27'::bytea
----
RESET bytea_output
----
SELECT '2026-02-28'::date, 'infinity'::date, '-infinity'::date, '4713-01-01 BC'::date, '5874897-12-31'::date
----
SELECT '12:34:56.789'::time, '24:00'::time, '12:34:56+02'::timetz, '12:34:56.789123-11:30'::timetz
----
SELECT '2026-01-01 00:00'::timestamp, 'infinity'::timestamp, '2026-07-01 12:00+02'::timestamptz, '294276-12-31 23:59:59.999999'::timestamp, '0001-01-01 BC'::timestamptz
----
SELECT '1 year 2 mons -3 days 04:05:06.7'::interval, '-1 day'::interval, '0'::interval
----
SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kathmandu'; SET IntervalStyle = 'sql_standard'
----
SELECT '2026-01-02'::date, '2026-01-02 03:04+00'::timestamptz, '1 day 2 hours'::interval
----
SET DateStyle = German
----
SELECT '2026-01-02'::date, '2026-01-02 03:04+00'::timestamptz
----
RESET ALL
----
SET extra_float_digits = -5
----
SELECT pi(), 0.1::float4, 1e10::float8
----
RESET extra_float_digits
----
SELECT ARRAY[1, NULL, 3], ARRAY[[1, 2], [3, 4]], '{}'::int[], '[0:1]={7,8}'::int[], ARRAY['a,b', 'c"d', 'NULL', NULL, '']::text[], ARRAY['sad', 'happy']::mood[]
----
SELECT ROW(1, 'a')::pair, ROW(NULL, '')::pair, ROW(ROW(1, 'x"y'), ARRAY['ok']::mood[], '2026-01-01')::nested, ROW(1, 2.5, 'three'), ARRAY[ROW(1, 'a')::pair, NULL]
----
SELECT '[1,5)'::int4range, 'empty'::int4range, '(,)'::numrange, '[2026-01-01,2026-02-01)'::daterange, '[1.5,2.5]'::floats, '{[1,3),[5,7)}'::int4multirange, '{[1.5,2.5]}'::floatmultirange
----
SELECT '{"a": [1, 2, {"b": null}], "é": "\u00e9"}'::json, '{"b": 1, "a": [true, 1.50]}'::jsonb, 'null'::jsonb, '"x"'::json, '$.a[*] ? (@ > 1)'::jsonpath
----
SELECT 'sad'::mood, NULL::mood, enum_range(NULL::mood), 7::positive
----
SELECT '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'::uuid, '192.168.0.1/24'::inet, '10.0.0.0/8'::cidr, '::1'::inet, '08:00:2b:01:02:03'::macaddr, '08:00:2b:01:02:03:04:05'::macaddr8, '$1,234.56'::money
----
SELECT '(1,2)'::point, '[(0,0),(1,1)]'::lseg, '((0,0),(1,1))'::box, '((0,0),(1,1),(2,0))'::polygon, '[(0,0),(1,1)]'::path, '<(0,0),5>'::circle, '{1,2,3}'::line
----
SELECT B'10110'::bit(5), B'101'::varbit, 'fat & (rat | cat)'::tsquery, 'a fat cat'::tsvector, '<a>b</a>'::xml
----
SELECT 'numbers'::regclass, 'int4'::regtype, '16/B374D848'::pg_lsn, '10:20:10,15'::pg_snapshot, 1::oid, '5'::xid, '7'::xid8, '1'::cid, '(0,1)'::tid
----
SELECT * FROM outs()
----
SELECT outs()
----
SELECT NULL, 'unknown', (SELECT NULL::int)
----
SELECT n AS "naïve ""name""", word AS " ", m FROM numbers ORDER BY n
----
SELECT numbers FROM numbers ORDER BY n
----
VALUES (1, 'a'), (2, NULL)
----
TABLE numbers
