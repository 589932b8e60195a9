package e2e_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/schematest"
)

// twoSchemas fills the source with what the flags are tried on.
const twoSchemas = `
	CREATE SCHEMA one; CREATE SCHEMA two;
	CREATE TABLE one.parent (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
	CREATE TABLE one.child (id serial PRIMARY KEY, parent integer NOT NULL REFERENCES one.parent);
	CREATE TABLE one.log (line text);
	CREATE TABLE two.other (id integer PRIMARY KEY, parent integer REFERENCES one.parent);
	CREATE FUNCTION one.stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''it reacts''; END';
	INSERT INTO one.parent (v) SELECT 'v' || n FROM generate_series(1, 30) n;
	INSERT INTO one.child (parent) SELECT n FROM generate_series(1, 30) n;
	INSERT INTO one.log SELECT 'line ' || n FROM generate_series(1, 30) n;
	INSERT INTO two.other SELECT n, n FROM generate_series(1, 10) n;
	CREATE TRIGGER stop BEFORE INSERT ON one.child FOR EACH ROW EXECUTE FUNCTION one.stop();
	CREATE MATERIALIZED VIEW one.count AS SELECT count(*) AS n FROM one.child;
	COMMENT ON TABLE one.parent IS 'parents'; GRANT SELECT ON one.parent TO PUBLIC`

// there lists the relations of the target that are no indexes and no sequences.
func (s *sides) there(t *testing.T) string {
	t.Helper()
	return pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT string_agg(n.nspname || '.' || c.relname, ' ' ORDER BY 1, n.nspname, c.relname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('one', 'two')`)
}

func TestCopyOfAPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags []string
		there string
		rows  string // of one.parent, one.log
	}{
		{[]string{"--include-schema=one"}, "one.child one.count one.log one.parent", "30 30"},
		{[]string{"--exclude-schema=t*"}, "one.child one.count one.log one.parent", "30 30"},
		{[]string{"--exclude-table=one.c*", "--exclude-table=two.other"}, "one.log one.parent", "30 30"},
		{[]string{"--exclude-table-data=one.l*"}, "one.child one.count one.log one.parent two.other", "30 0"},
		{[]string{"--schema-only"}, "one.child one.count one.log one.parent two.other", "0 0"},
	} {
		t.Run(strings.Join(c.flags, " "), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && c.rows != "30 0" {
				t.Skip("with -short only one flag is tried")
			}
			s := newSides(t)
			pgtest.Exec(t, pgtest.Conn(t, s.source), twoSchemas)
			out, code := s.say(t, nil, append([]string{"copy"}, c.flags...)...)
			require.Equal(t, 0, code, out)
			require.Equal(t, c.there, s.there(t))
			target := pgtest.Conn(t, s.target)
			require.Equal(t, c.rows, pgtest.Value(t, target, `SELECT (SELECT count(*) FROM one.parent) || ' ' || (SELECT count(*) FROM one.log)`))
			next := pgtest.Value(t, target, `SELECT coalesce(pg_sequence_last_value('one.parent_id_seq'), 0)`)
			if c.flags[0] == "--schema-only" {
				require.Equal(t, "0", next)
				require.Equal(t, "false", pgtest.Value(t, target, `SELECT relispopulated FROM pg_class WHERE relname = 'count'`))
			} else {
				require.Equal(t, "30", next)
			}
			s.requireNothingLeft(t)
		})
	}
}

// A copy into an existing schema, whose keys and triggers would not have its rows
// in any order.
func TestCopyOfDataAlone(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	pgtest.Exec(t, pgtest.Conn(t, s.source), twoSchemas)
	out, code := s.say(t, nil, "copy", "--data-only")
	require.Equal(t, 1, code, out)
	oneLine(t, lastLine(out), "is not on the target", "--data-only")
	s.requireNothingLeft(t)

	out, code = s.say(t, nil, "copy", "--schema-only")
	require.Equal(t, 0, code, out)
	target := pgtest.Conn(t, s.target)
	schema := s.dump(t, s.target)
	pgtest.Exec(t, target, `INSERT INTO one.log VALUES ('in the way')`)
	out, code = s.say(t, nil, "copy", "--data-only")
	require.Equal(t, 1, code, out)
	oneLine(t, lastLine(out), "one.log", "TRUNCATE")
	require.Equal(t, "1", pgtest.Value(t, target, `SELECT count(*) FROM one.log`))
	s.requireNothingLeft(t)

	pgtest.Exec(t, target, `TRUNCATE one.log`)
	copyKilled(t, s, "copy.chunk=kill@2", "--data-only")
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "rows of TABLE")
	require.Equal(t, "0 0", pgtest.Value(t, target, `SELECT (SELECT count(*) FROM one.parent) || ' ' || (SELECT count(*) FROM one.child)`))
	requireSameSchema(t, schema, s.dump(t, s.target), "before and after clean")
	s.requireNothingLeft(t)

	copyKilled(t, s, "copy.chunk=kill@2", "--data-only")
	out, code = s.say(t, nil, "copy")
	require.Equal(t, 1, code, out)
	oneLine(t, lastLine(out), "other flags", "--data-only")
	out, code = s.say(t, nil, "copy", "--data-only")
	require.Equal(t, 0, code, out)
	require.Equal(t, "30 30 30 10 30", pgtest.Value(t, target, `SELECT concat_ws(' ', (SELECT count(*) FROM one.parent), (SELECT count(*) FROM one.child),
		(SELECT count(*) FROM one.log), (SELECT count(*) FROM two.other), (SELECT n FROM one.count))`))
	requireSameSchema(t, schema, s.dump(t, s.target), "before and after")
	_, err := target.Exec(t.Context(), `INSERT INTO one.child (parent) VALUES (1)`)
	require.ErrorContains(t, err, "it reacts")
	_, err = target.Exec(t.Context(), `INSERT INTO two.other VALUES (100, 100)`)
	require.ErrorContains(t, err, "foreign key")
	s.requireNothingLeft(t)
}

// lastLine is what the program prints after the lines of its log.
func TestCopyCleansWhatIsInItsWay(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	pgtest.Exec(t, pgtest.Conn(t, s.source), twoSchemas)
	target := pgtest.Conn(t, s.target)
	pgtest.Exec(t, target, `CREATE SCHEMA one; CREATE SCHEMA mine; CREATE TABLE mine.kept (id integer); INSERT INTO mine.kept VALUES (1);
		CREATE TABLE one.parent (old integer); CREATE VIEW mine.looks AS SELECT * FROM one.parent; CREATE TABLE one.also_mine (id integer)`)
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 1, code, out)
	refusedFor(t, out, "target_not_empty")

	out, code = s.say(t, nil, "copy", "--clean")
	require.Equal(t, 1, code, out)
	oneLine(t, lastLine(out), "mine.looks", "nothing was dropped")
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM one.parent`), "it is still the old one")
	s.requireNothingLeft(t)

	pgtest.Exec(t, target, `DROP VIEW mine.looks`)
	out, code = s.say(t, nil, "copy", "--clean", "--log-level=error")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, `"kind":"TABLE","object":"one.parent"`)
	require.NotContains(t, out, "mine")
	oneLine(t, lastLine(out), "--clean would drop", "nothing was dropped")
	_, yes, _ := strings.Cut(lastLine(out), "look at the list, then give ")
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM one.parent`), "it is still the old one")
	s.requireNothingLeft(t)
	for range 2 { // the second time everything is there
		out, code = s.say(t, nil, "copy", "--clean", yes)
		require.Equal(t, 0, code, out)
		require.Contains(t, out, `"kind":"TABLE","object":"one.parent"`)
		require.Equal(t, "30 1", pgtest.Value(t, target, `SELECT (SELECT count(v) FROM one.parent) || ' ' || (SELECT count(*) FROM mine.kept)`))
		require.Equal(t, "one.also_mine one.child one.count one.log one.parent two.other", s.there(t))
		s.requireNothingLeft(t)
	}
}

func TestCopyWithoutOwnersRightsAndComments(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	pgtest.Exec(t, pgtest.Conn(t, s.source), twoSchemas)
	role := "r" + s.source.User()
	pgtest.Exec(t, adminOf(t, s.sourceCluster, s.source.Database()), `CREATE ROLE `+role+`; GRANT `+role+` TO `+s.source.User()+`; GRANT USAGE, CREATE ON SCHEMA one TO `+role+
		`; ALTER TABLE one.log OWNER TO `+role+`; GRANT SELECT ON one.parent TO `+role)
	t.Cleanup(func() { pgtest.DropRole(t, s.sourceCluster, s.source.Database(), role) })

	out, code := s.say(t, nil, "copy")
	require.Equal(t, 1, code, out)
	refusedFor(t, out, "role_missing "+role, "--roles", "--no-acl")
	s.requireNothingLeft(t)

	out, code = s.say(t, nil, "copy", "--no-acl", "--no-comments")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "ROLE "+role+": owns 1 objects")
	target := pgtest.Conn(t, s.target)
	require.Equal(t, s.target.User(), pgtest.Value(t, target, `SELECT relowner::regrole FROM pg_class WHERE oid = 'one.log'::regclass`))
	require.Equal(t, "", pgtest.Value(t, target, `SELECT relacl FROM pg_class WHERE oid = 'one.parent'::regclass`))
	require.Equal(t, "", pgtest.Value(t, target, `SELECT obj_description('one.parent'::regclass)`))
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM pg_roles WHERE rolname = '`+role+`'`))
}

// What the target's role may not make is named at once, each by its name, and
// nothing is begun.
func TestCopyNamesWhatOnlySuperusersMake(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Shared(t, pgtest.Source), neontest.Shared(t)
	e := schematest.Load(t, source, schematest.Superuser)
	end := neontest.Endpoint(t, target)
	s := &sides{source: e.DSN, sourceCluster: source, target: neontest.Database(t, end), targetCluster: target, neon: end}
	out, code := s.say(t, nil, "copy", "--roles", "--log-level=error")
	require.Equal(t, 1, code, out)
	refusedFor(t, out, "kind.base_type is a base type", "kind.shell is a shell type", "kind.again using btree is a operator class",
		"kind.lonely using hash", "heap_two is a access method", "kind.parser is a text search parser", "kind.template is a text search template",
		"kindwrapper is a foreign data wrapper", "kindlang is a language", "integer for kindlang is a transform", "kind.base_type as text is a cast without function",
		"kind.sealed(integer) is a leakproof function", "kind.base_in(cstring) is a function in internal", "kind.lang_handler() is a function in c", "drop it on the source")
	require.NotContains(t, out, "kind.touch", "what anybody can make is not named")
	require.Equal(t, "0", pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'`))
	require.Equal(t, "0", pgtest.Value(t, adminOf(t, target, "postgres"), `SELECT count(*) FROM pg_roles WHERE rolname IN ('`+e.App+`', '`+e.Reader+`')`))
}

func TestCopyOfAllDatabases(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts a cluster of its own")
	}
	c := pgtest.Own(t, pgtest.Source, func(cfg *pgcluster.Config) { cfg.Settings = map[string]string{"wal_level": "replica"} })
	s := &sides{sourceCluster: c, source: pgtest.Database(t, c), targetCluster: neontest.Shared(t), neon: neontest.Endpoint(t, neontest.Shared(t))}
	s.target = neontest.Database(t, s.neon)
	admin := adminOf(t, c, "postgres")
	suffix := s.target.Database()[1:]
	first, second, closed := "a_"+suffix, `B "`+suffix, "closed_"+suffix
	for _, name := range []string{first, second, closed} {
		pgtest.Exec(t, admin, `CREATE DATABASE `+quoted(name)+` OWNER `+s.source.User())
		pgtest.Exec(t, pgtest.Conn(t, s.source.WithDatabase(name)), `CREATE TABLE public.t (name text PRIMARY KEY); INSERT INTO public.t VALUES (current_database())`)
		t.Cleanup(func() {
			for _, c := range []*pgcluster.Cluster{c, s.targetCluster} {
				pgtest.Exec(t, adminOf(t, c, "postgres"), `DROP DATABASE IF EXISTS `+quoted(name)+` WITH (FORCE)`)
			}
		})
	}
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.t (name text PRIMARY KEY); INSERT INTO public.t VALUES ('own')`)
	pgtest.Exec(t, admin, `REVOKE CONNECT ON DATABASE `+closed+` FROM PUBLIC; ALTER DATABASE `+closed+` OWNER TO postgres; REVOKE CONNECT ON DATABASE `+closed+` FROM `+s.source.User())
	pgtest.Exec(t, admin, `ALTER DATABASE `+first+` SET work_mem = '9MB'`)

	// The database postgres is left out while it is empty, and needs a name when it is not.
	pgtest.Exec(t, adminOf(t, c, "postgres"), `CREATE TABLE public.late (id integer PRIMARY KEY); GRANT SELECT ON public.late TO PUBLIC`)
	out, code := s.say(t, nil, "copy", "--all-databases")
	require.Equal(t, 2, code, out)
	oneLine(t, lastLine(out), "postgres is Neon's own", "--rename-database postgres=NAME")
	out, code = s.say(t, nil, "copy", "--all-databases", "--rename-database=nothing=x")
	require.Equal(t, 2, code, out)
	oneLine(t, lastLine(out), "no such database")
	pgtest.Exec(t, adminOf(t, c, "postgres"), `DROP TABLE public.late`)

	own := s.source.Database()
	t.Cleanup(func() {
		pgtest.Exec(t, adminOf(t, s.targetCluster, "postgres"), `DROP DATABASE IF EXISTS moved_`+suffix+` WITH (FORCE)`)
	})
	out, code = s.say(t, nil, "copy", "--all-databases", "--rename-database="+own+"=moved_"+suffix)
	require.Equal(t, 0, code, out)
	for name, want := range map[string]string{first: first, second: second, "moved_" + suffix: "own"} {
		require.Equal(t, want, pgtest.Value(t, pgtest.Conn(t, s.target.WithDatabase(name)), `SELECT name FROM public.t`), out)
	}
	require.Equal(t, "9MB", pgtest.Value(t, pgtest.Conn(t, s.target.WithDatabase(first)), `SELECT current_setting('work_mem')`))
	require.Contains(t, out, "may not connect")
	require.Contains(t, out, "not copied: empty")
	require.Equal(t, 1, strings.Count(out, "database  "), "one report")

	// Again: what is there is refused, and the others are not harmed.
	out, code = s.say(t, nil, "copy", "--all-databases", "--rename-database="+own+"=moved_"+suffix)
	require.Equal(t, 1, code, out)
	oneLine(t, lastLine(out), "3 of 5 databases were not copied")
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
