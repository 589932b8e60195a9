package copy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

const oddDDL = `
	CREATE TYPE mood AS ENUM ('happy', 'süß', 'it''s "fine"');
	CREATE TYPE pair AS (a int, b text);
	CREATE DOMAIN positive AS numeric CHECK (value > 0);
	CREATE TABLE odd (id int, gone text, n numeric, f4 float4, f8 float8, d date, ts timestamp, tz timestamptz, iv interval,
		ints int[], texts text[], e mood, es mood[], c pair, cs pair[], j json, jb jsonb, b bytea, t text, ch char(7), vc varchar,
		r int4range, u uuid, ip inet, bits bit varying, x xml, p point, m positive, g int GENERATED ALWAYS AS (id * 2) STORED, i bigint GENERATED ALWAYS AS IDENTITY);
	ALTER TABLE odd DROP COLUMN gone;
	CREATE TABLE empty (id int);
	CREATE TABLE nothing ();
	CREATE TABLE only_generated (g int GENERATED ALWAYS AS (1 + 1) STORED);
	CREATE SCHEMA "Ünïcode ""schema""";
	CREATE TABLE "Ünïcode ""schema"""."tab'le; DROP" ("col ""umn" text, "SELECT" int, "日本" int);
	CREATE TABLE parent (id int); CREATE TABLE child (more text) INHERITS (parent);
	CREATE TABLE wide (t text);`

const oddRows = `
	INSERT INTO odd (id, n, f4, f8, d, ts, tz, iv) VALUES
		(1, 'NaN', 'NaN', '-0', '4713-01-01 BC', '-infinity', 'infinity', '-178000000 years'),
		(2, 'Infinity', '-Infinity', 'Infinity', 'infinity', '4713-01-01 00:00:00 BC', '294276-12-31 23:59:59.999999+00', '1 mon -1 day 00:00:00.000001'),
		(3, '-Infinity', '1.17549435e-38', '0.1', '5874897-12-31', '0001-01-01 00:00:00 BC', '1970-01-01 00:00:00+00', 'P1Y2M3DT4H5M6.789S'),
		(4, 1e-300, 16777217, 4.9e-324, NULL, NULL, NULL, NULL);
	INSERT INTO odd (id, ints, texts, e, es, c, cs, j, jb, t, ch, vc, r, u, ip, bits, x, p, m) VALUES
		(5, '{{1,NULL},{3,4}}', ARRAY['a,b', '\"q"', NULL, 'NULL', '', '{}'], 'süß', '{happy,"it''s \"fine\""}', ROW(1, 'x,"y'), ARRAY[ROW(NULL, NULL)::pair, ROW(1, '')::pair],
			'{ "b" : 1, "a":  [] , "a": null}', '{"b": 1.10, "a": "\u00e9\\n"}', E'tab\tnl\ncr\rbs\\end\\.', 'ab', '', 'empty', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
			'::1/64', B'10101', '<a>ü</a>', '(1e300,-0)', 0.5),
		(6, '[5:6]={1,2}', '{}', NULL, '{NULL}', NULL, NULL, 'null', 'null', '', '', E'\\N', '(,5)', NULL, '10.0.0.0/8', B'', NULL, NULL, NULL),
		(7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
	INSERT INTO odd (id, b, t) SELECT 8, string_agg(decode(lpad(to_hex(i), 2, '0'), 'hex'), '' ORDER BY i), string_agg(chr(i + 1), '' ORDER BY i) FROM generate_series(0, 255) i;
	INSERT INTO odd (id, t) VALUES (9, E'\\.'), (10, E'\n\\.\n'), (11, '\N'), (12, repeat('long ', 200000));
	INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
	INSERT INTO only_generated DEFAULT VALUES;
	INSERT INTO "Ünïcode ""schema"""."tab'le; DROP" VALUES ('ü', 1, 2), (NULL, NULL, NULL);
	INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'two');
	INSERT INTO wide SELECT string_agg(md5((i * 7 + j)::text), '') FROM generate_series(1, 20) i, generate_series(1, 2000) j GROUP BY i;`

var oddTables = []string{"odd", "empty", "nothing", "only_generated", `"Ünïcode ""schema"""."tab'le; DROP"`, "parent", "child", "wide"}

func TestOddValuesArriveAsTheyAre(t *testing.T) {
	t.Parallel()
	for name, binary := range map[string]bool{"text": false, "binary": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, oddDDL)
			pgtest.Exec(t, f.source, oddRows)
			c := f.copier(f.config(binary))
			require.NoError(t, c.Run(f.context()))
			for _, table := range oddTables {
				f.requireEqual(table)
			}
			p := c.Progress()
			require.Equal(t, len(oddTables), p.TablesDone)
			require.Equal(t, p.TablesTotal, p.TablesDone)
			require.Equal(t, p.BytesTotal, p.BytesDone)
			require.EqualValues(t, 12+2+1+2+1+1+20, p.RowsDone)
		})
	}
}
