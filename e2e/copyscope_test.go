package e2e_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// platformSchemas are what a platform has added to the application's schema, for roles other than
// the application's.
const platformSchemas = `
	CREATE SCHEMA vault; CREATE TABLE vault.secret (id serial PRIMARY KEY, word text); INSERT INTO vault.secret (word) VALUES ('x');
	CREATE TABLE vault.tenant (id int); ALTER TABLE vault.tenant ENABLE ROW LEVEL SECURITY;
	CREATE SCHEMA watch; CREATE FUNCTION watch.ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
	CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION watch.ddl();
	CREATE EXTENSION pageinspect; CREATE EXTENSION hstore;
	CREATE TABLE vault.places (id int); INSERT INTO vault.places VALUES (1);
	SET allow_system_table_mods = on; UPDATE pg_extension SET extconfig = ARRAY['vault.places'::regclass::oid], extcondition = ARRAY[''] WHERE extname = 'hstore'`

func TestACopyOfOneSchemaNeedsNothingOfTheOthers(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	pgtest.Exec(t, admin, platformSchemas)
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE SCHEMA app; CREATE TABLE app.kept (id serial PRIMARY KEY, v text); INSERT INTO app.kept (v) VALUES ('a'), ('b');
		CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
	target := pgtest.Conn(t, s.target)
	pgtest.Exec(t, target, `CREATE SCHEMA mine; CREATE TABLE mine.kept (id int); INSERT INTO mine.kept VALUES (1)`)

	out, code := s.say(t, nil, "copy")
	require.Equal(t, 1, code, "everything is another matter")
	for _, want := range []string{"vault.secret", "event_trigger", "pageinspect", "mine.kept"} {
		require.Contains(t, out, want)
	}
	var report struct {
		Ready    bool
		Blockers []struct{ Code, Object string }
	}
	out, code = s.say(t, nil, "check", "--json")
	require.Equal(t, 1, code, out)
	out, code = s.say(t, nil, "check", "--copy", "--include-schema=app", "--json")
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	require.Empty(t, report.Blockers, out)
	require.Equal(t, 0, code, out)
	out, code = s.say(t, nil, "check", "--copy", "--include-schema=(app|vault)", "--json")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "vault.secret", "the pattern takes it along")
	out, code = s.say(t, nil, "check", "--include-schema=app")
	require.Equal(t, 2, code, out)
	oneLine(t, lastLine(out), "--include-schema", "--copy")

	out, code = s.say(t, nil, "copy", "--include-schema=app")
	require.Equal(t, 0, code, out)
	require.Equal(t, "ab1 1", pgtest.Value(t, target, `SELECT (SELECT string_agg(v, '' ORDER BY id) FROM app.kept) || app.f() || ' ' || (SELECT count(*) FROM mine.kept)`))
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM pg_namespace WHERE nspname IN ('vault', 'watch')`))
	s.requireNothingLeft(t)
	pgtest.Exec(t, admin, "UPDATE pg_extension SET extconfig = NULL, extcondition = NULL WHERE extname = 'hstore'; DROP EVENT TRIGGER ddl")
}

// encodedSource replaces the source's database by one in another encoding.
func (s *sides) encodedSource(t *testing.T, encoding string) {
	t.Helper()
	pgtest.DatabaseAs(t, s.sourceCluster, s.source.Database(), s.source.User(), "ENCODING '"+encoding+"' LOCALE 'C'")
}

func TestACopyConvertsEncodingsAsPgDumpDoes(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII", "EUC_JP"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			s := newSides(t)
			s.encodedSource(t, encoding)
			word := map[string]string{"LATIN1": "Grün ÿ", "SQL_ASCII": "Grün €", "EUC_JP": "日本語"}[encoding]
			source := pgtest.Conn(t, s.source)
			// Keys, arrays, json, enums, names and comments: in text and in the binary form.
			pgtest.Exec(t, source, `CREATE TYPE public.kind AS ENUM ('`+word+`', 'x');
				CREATE TABLE public."t `+word+`" (k text PRIMARY KEY, a text[], j jsonb, e public.kind, c character(12), n int, v tsvector);
				INSERT INTO public."t `+word+`" VALUES ('`+word+`', ARRAY['`+word+`', NULL], '{"`+word+`": 1}', '`+word+`', '`+word+`', 1, to_tsvector('simple', '`+word+`'));
				COMMENT ON TABLE public."t `+word+`" IS '`+word+`';
				CREATE TABLE public.part (k text) PARTITION BY HASH (k); CREATE TABLE public.part_0 PARTITION OF public.part FOR VALUES WITH (MODULUS 2, REMAINDER 0);
				CREATE TABLE public.part_1 PARTITION OF public.part FOR VALUES WITH (MODULUS 2, REMAINDER 1);
				INSERT INTO public.part SELECT '`+word+`' || n FROM generate_series(1, 50) n`)
			out, code := s.say(t, nil, "copy")
			require.Equal(t, 0, code, out)
			require.Contains(t, out, "encoding_converted")
			target := pgtest.Conn(t, s.target)
			for _, sql := range []string{`SELECT concat_ws('|', k, a, j, e, rtrim(c), n, v) FROM public."t ` + word + `"`,
				`SELECT obj_description('public."t ` + word + `"'::regclass)`, `SELECT string_agg(k, ',' ORDER BY k COLLATE "C") FROM public.part`} {
				require.Equal(t, pgtest.Value(t, source, sql), pgtest.Value(t, target, sql), sql)
			}
			s.requireNothingLeft(t)
		})
	}
}

func TestACopyNamesTheRowThatCannotBeConverted(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.encodedSource(t, "SQL_ASCII")
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, `CREATE TABLE public.word (id int PRIMARY KEY, w text); INSERT INTO public.word VALUES (1, 'a'), (2, convert_from('\x4772fc6e', 'SQL_ASCII'))`)
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 1, code, out)
	for _, want := range []string{"encoding_invalid", "public.word", "key (2), column w", "UPDATE", "LATIN1"} {
		require.Contains(t, out, want)
	}
	pgtest.Exec(t, source, `UPDATE public.word SET w = convert_from(convert(convert_to(w, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII') WHERE id = 2`)
	out, code = s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	require.Equal(t, "a Grün", pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT string_agg(w, ' ' ORDER BY id) FROM public.word`))
	s.requireNothingLeft(t)
}
