COPY numbers TO STDOUT
----
COPY numbers TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *)
----
COPY numbers TO STDOUT (FORMAT binary)
----
COPY (SELECT NULL, '', E'a\tb\nc\\d', 'é') TO STDOUT
----
COPY (SELECT NULL, '', 'a,b', 'c"d') TO STDOUT (FORMAT csv, NULL 'null')
----
COPY (SELECT '\x00ff'::bytea, 'NaN'::numeric, ARRAY[1,2], ROW(1,'x')::pair) TO STDOUT (FORMAT binary)
----
COPY (SELECT n, repeat('r', 100) FROM generate_series(1, 20000) n) TO STDOUT
----
COPY (SELECT 1 / (100 - n) FROM generate_series(1, 200) n) TO STDOUT
----
COPY sink FROM STDIN
<< 1\tone\t\\\\x00ff\t2026-01-01 00:00:00+00\n
<< 2\t\\N\t\\N\t\\N\n3\tthr
<< ee\t\\N\t\\N\n
----
COPY sink FROM STDIN (FORMAT csv, HEADER)
<< id,v,b,at\n4,"quo""ted, with\nline",,\n
<< 5,,\\xab,2026-06-06\n
----
COPY sink (id, v) FROM STDIN (FORMAT binary)
<< PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00
<< \x00\x02\x00\x00\x00\x04\x00\x00\x00\x06\x00\x00\x00\x03six
<< \x00\x02\x00\x00\x00\x04\x00\x00\x00\x07\xff\xff\xff\xff\xff\xff
----
COPY sink (id) FROM STDIN (FORMAT binary)
<< not the signature
----
COPY sink (id) FROM STDIN
<< 1\nx\n3\n
----
COPY sink (id) FROM STDIN
<< 1\t2\n
----
COPY sink (id) FROM STDIN
<! the client gives up
----
COPY sink (id) FROM STDIN
<< 8\n\\.\n9\n
----
COPY sink (id) FROM STDIN
----
COPY nowhere FROM STDIN
<< 1\n
----
COPY numbers FROM '/etc/passwd'
----
COPY child FROM STDIN
<< 1\t1\t5\n2\t2\t6\n
----
COPY child FROM STDIN
<< 3\t77\t5\n
----
SELECT count(*), sum(id) FROM sink
----
DELETE FROM sink
----
DELETE FROM child
