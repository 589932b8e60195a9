package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// cast are roles of a source, each of its own kind, and what they work with.
type cast struct {
	s      *sides
	prefix string
	names  []string // who can log in, in the order in which they came
}

// play makes the schema, the roles and what they may do. % stands for the prefix of roles, @
// for the database.
func newCast(t *testing.T, s *sides) *cast {
	t.Helper()
	c := &cast{s: s, prefix: "k" + strings.ToLower(rand.Text()[:7]) + "_"}
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	do := func(conn *pgx.Conn, sql string) {
		pgtest.Exec(t, conn, strings.NewReplacer("%", c.prefix, "@", s.source.Database()).Replace(sql))
	}
	role := func(name, options, more string) {
		do(admin, "CREATE ROLE %"+name+" "+options+"; GRANT CONNECT ON DATABASE @ TO %"+name+"; "+more)
		if strings.HasPrefix(options, "LOGIN") {
			c.names = append(c.names, c.prefix+name)
		}
		t.Cleanup(func() {
			pgtest.DropRole(t, s.sourceCluster, s.source.Database(), c.prefix+name)
			if c.has(t, c.prefix+name) {
				pgtest.DropRole(t, s.targetCluster, s.target.Database(), c.prefix+name)
			}
		})
	}
	login := "LOGIN PASSWORD 'pw-secret-of-mine'"
	role("group", "NOLOGIN", "")
	role("outer", "NOLOGIN", "GRANT %group TO %outer")
	role("owner", login, "")
	role("member", login, "GRANT %outer TO %member")
	role("noinherit", login+" NOINHERIT", "GRANT %group TO %noinherit")
	role("admin", login, "GRANT %group TO %admin WITH ADMIN OPTION")
	role("tenant", login, "ALTER ROLE %tenant SET app.tenant = '2'")
	role("reader", login, "")
	role("everything", login, "GRANT pg_read_all_data TO %everything")
	role("bypass", login+" BYPASSRLS", "")
	role("settings", login, "ALTER ROLE %settings SET search_path = work, public; ALTER ROLE %settings SET statement_timeout = '77s'; ALTER ROLE %settings IN DATABASE @ SET DateStyle = 'German'; ALTER ROLE %settings SET work_mem = '3MB'")
	role("limited", login+" CONNECTION LIMIT 2", "")
	role("becomes", login, "GRANT %group TO %becomes; ALTER ROLE %becomes SET role = '%group'")
	role("until", login+" VALID UNTIL '2100-01-01'", "")
	role("columns", login, "")
	role("calls", login, "")
	role("self", login, "CREATE SCHEMA AUTHORIZATION %self")
	role("creates", login, "GRANT CREATE, TEMPORARY ON DATABASE @ TO %creates")
	role("grants", login, "")
	role("nothing", login, "")
	do(pgtest.Conn(t, s.source), `CREATE SCHEMA work; CREATE SCHEMA closed;
		CREATE TABLE work.rows (id int PRIMARY KEY, tenant int NOT NULL, who text DEFAULT current_user, note text);
		INSERT INTO work.rows (id, tenant, who) SELECT n, mod(n, 3) + 1, '%' || CASE mod(n, 3) WHEN 0 THEN 'tenant' ELSE 'reader' END FROM generate_series(1, 30) n;
		ALTER TABLE work.rows ENABLE ROW LEVEL SECURITY;
		CREATE POLICY by_tenant ON work.rows USING (tenant = coalesce(nullif(current_setting('app.tenant', true), ''), '0')::int OR who = current_user OR pg_has_role('%group', 'USAGE'));
		CREATE TABLE work.plain (id serial PRIMARY KEY, a text, b text); INSERT INTO work.plain (a, b) SELECT n, n FROM generate_series(1, 5) n;
		CREATE TABLE closed.secret (id int PRIMARY KEY); INSERT INTO closed.secret VALUES (1);
		CREATE TABLE public.open (id int PRIMARY KEY, v text); INSERT INTO public.open VALUES (1, 'x');
		CREATE SEQUENCE work.numbers; CREATE TYPE work.kind AS ENUM ('a', 'b'); CREATE DOMAIN work.positive AS int CHECK (VALUE > 0);
		CREATE VIEW work.view AS SELECT id, a FROM work.plain; CREATE VIEW work.mine WITH (security_barrier) AS SELECT * FROM work.rows WHERE who = current_user;
		CREATE MATERIALIZED VIEW work.stored AS SELECT count(*) AS n FROM work.plain;
		CREATE FUNCTION work.who() RETURNS text LANGUAGE sql AS 'SELECT concat(current_user, session_user)';
		CREATE FUNCTION work.counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM work.rows';
		CREATE PROCEDURE work.act() LANGUAGE sql AS 'UPDATE work.plain SET b = b'`)
	do(pgtest.Conn(t, s.source), `REVOKE ALL ON FUNCTION work.counted() FROM PUBLIC; REVOKE ALL ON TYPE work.kind FROM PUBLIC;
		GRANT USAGE ON SCHEMA work TO PUBLIC; GRANT SELECT ON work.rows TO PUBLIC; GRANT INSERT, UPDATE ON work.rows TO %tenant;
		GRANT SELECT, INSERT, UPDATE, DELETE ON work.plain TO %group; GRANT USAGE ON SEQUENCE work.plain_id_seq, work.numbers TO %group; GRANT USAGE ON TYPE work.kind TO %group;
		GRANT SELECT ON ALL TABLES IN SCHEMA work TO %reader; GRANT SELECT (id, a), UPDATE (b) ON work.plain TO %columns; GRANT EXECUTE ON FUNCTION work.counted() TO %calls;
		GRANT CREATE ON SCHEMA work TO %creates; GRANT SELECT ON work.plain TO %grants WITH GRANT OPTION; GRANT TRIGGER, REFERENCES, TRUNCATE ON work.plain TO %bypass`)
	do(admin, `CREATE SCHEMA own AUTHORIZATION %owner; SET ROLE %owner; CREATE TABLE own.things (id int PRIMARY KEY, v text); INSERT INTO own.things VALUES (1, 'x'), (2, 'y');
		CREATE FUNCTION own.things() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM own.things'; GRANT USAGE ON SCHEMA own TO %reader;
		ALTER DEFAULT PRIVILEGES IN SCHEMA own GRANT SELECT ON TABLES TO %reader; RESET ROLE;
		SET ROLE %self; CREATE TABLE %self.things (id int PRIMARY KEY, v text); INSERT INTO %self.things VALUES (1, 'mine'); RESET ROLE;
		GRANT `+s.source.User()+` TO %grants; REVOKE `+s.source.User()+` FROM %grants; GRANT %owner, %self TO `+s.source.User())
	return c
}

func (c *cast) has(t *testing.T, role string) bool {
	return pgtest.Value(t, adminOf(t, c.s.targetCluster, "postgres"), "SELECT count(*) FROM pg_roles WHERE rolname = '"+role+"'") == "1"
}

// mayOf lists what the role of a session may do, and what rows it sees, line by line: by the
// catalog, for each object and each right.
const mayOf = `
WITH spaces AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'crossfade')),
relations AS (SELECT c.oid, format('%I.%I', nspname, relname) AS name, relkind, relowner FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace WHERE relkind IN ('r', 'p', 'v', 'm', 'S'))
SELECT format('schema %s %s: %s', nspname, p, has_schema_privilege(oid, p)) FROM spaces, unnest(ARRAY['USAGE', 'CREATE', 'USAGE WITH GRANT OPTION']) p
UNION ALL SELECT format('relation %s %s: %s', name, p, has_table_privilege(oid, p)) FROM relations, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'SELECT WITH GRANT OPTION']) p WHERE relkind <> 'S'
UNION ALL SELECT format('relation %s owned: %s', name, pg_has_role(relowner, 'USAGE')) FROM relations
UNION ALL SELECT format('rows %s filtered: %s', name, row_security_active(oid)) FROM relations WHERE relkind = 'r'
UNION ALL SELECT format('sequence %s %s: %s', name, p, has_sequence_privilege(oid, p)) FROM relations, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) p WHERE relkind = 'S'
UNION ALL SELECT format('column %s.%I %s: %s', name, attname, p, has_column_privilege(r.oid, attnum, p)) FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S'
UNION ALL SELECT format('function %I.%I EXECUTE: %s owned: %s', nspname, proname, has_function_privilege(f.oid, 'EXECUTE'), pg_has_role(proowner, 'USAGE')) FROM pg_proc f JOIN spaces s ON s.oid = f.pronamespace
UNION ALL SELECT format('type %I.%I USAGE: %s owned: %s', nspname, typname, has_type_privilege(y.oid, 'USAGE'), pg_has_role(typowner, 'USAGE')) FROM pg_type y JOIN spaces s ON s.oid = y.typnamespace
UNION ALL SELECT format('database %s: %s', p, has_database_privilege(current_database(), p)) FROM unnest(ARRAY['CONNECT', 'CREATE', 'TEMPORARY']) p
UNION ALL SELECT format('member of %s: %s %s', r, pg_has_role(r, 'MEMBER'), pg_has_role(r, 'USAGE')) FROM unnest(%s) r
UNION ALL SELECT format('role %s %s, super %s, bypasses %s, creates roles %s, databases %s, inherits %s, limit %s, until %s', current_user, session_user, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolinherit, rolconnlimit, rolvaliduntil AT TIME ZONE 'UTC') FROM pg_roles WHERE rolname = session_user
UNION ALL SELECT format('setting %s: %s', s, current_setting(s, true)) FROM unnest(ARRAY['search_path', 'statement_timeout', 'DateStyle', 'work_mem', 'app.tenant', 'role']) s
UNION ALL SELECT format('schemas of the path: %s', current_schemas(true))
ORDER BY 1`

// deeds are what a role does, each in a transaction that is rolled back. What comes of it is
// the error's code, or the rows.
var deeds = []string{
	"SELECT count(*), sum(tenant) FROM work.rows", "SELECT count(*) FROM work.plain", "SELECT a FROM work.plain ORDER BY 1", "SELECT count(*) FROM work.view", "SELECT count(*) FROM work.mine",
	"SELECT n FROM work.stored", "SELECT count(*) FROM closed.secret", "SELECT v FROM public.open", "SELECT v FROM own.things ORDER BY 1", "SELECT v FROM things ORDER BY 1",
	"SELECT work.who()", "SELECT work.counted()", "SELECT own.things()", "CALL work.act()", "SELECT nextval('work.numbers') > 0", "SELECT 'a'::work.kind",
	"INSERT INTO work.rows (id, tenant) VALUES (100, 2) RETURNING who", "INSERT INTO work.rows (id, tenant) VALUES (100, 3) RETURNING who", "UPDATE work.rows SET note = 'x' RETURNING 1", "DELETE FROM work.rows",
	"INSERT INTO work.plain (a) VALUES ('x') RETURNING a", "UPDATE work.plain SET b = 'y' WHERE id = 1 RETURNING id", "DELETE FROM work.plain WHERE id = 1", "TRUNCATE work.plain", "LOCK TABLE work.plain IN SHARE MODE",
	"CREATE TABLE work.more (id int)", "CREATE TABLE public.more (id int)", "CREATE TABLE own.more (id int)", "CREATE SCHEMA more", "CREATE TEMPORARY TABLE temporary (id int)", "CREATE TABLE work.ref (id int REFERENCES work.plain)",
	"ALTER TABLE work.plain ADD c int", "ALTER TABLE own.things ADD c int", "DROP TABLE work.plain", "DROP TABLE own.things", "DROP TABLE public.open", "ALTER FUNCTION work.counted() STABLE", "DROP SCHEMA work CASCADE",
	"GRANT SELECT ON work.plain TO PUBLIC", "GRANT SELECT ON own.things TO PUBLIC", "ALTER TABLE work.rows DISABLE ROW LEVEL SECURITY", "REFRESH MATERIALIZED VIEW work.stored", "CREATE ROLE more_of_them",
	"SET ROLE %group", "SET ROLE %owner", "GRANT %group TO %nothing", "ALTER ROLE %nothing CREATEDB", "COMMENT ON TABLE work.plain IS 'x'", "ANALYZE work.plain", "SET SESSION AUTHORIZATION %owner",
}

// sees logs in through the proxy and writes down what the role may see and do.
func (c *cast) sees(t *testing.T, p *process, role, password string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, p.proxied().WithUser(role, password).Config())
	require.NoError(t, err, role)
	defer func() { _ = conn.Close(ctx) }()
	ask := func(q string) []string {
		rows, err := conn.Query(ctx, q, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, role)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, role)
		return lines
	}
	groups := "ARRAY['" + c.prefix + "group', '" + c.prefix + "outer', '" + c.prefix + "owner', 'pg_read_all_data', 'pg_database_owner', '" + c.s.source.User() + "']"
	lines := ask(strings.Replace(mayOf, "unnest(%s) r", "unnest("+groups+") r", 1))
	for _, deed := range deeds {
		sql := strings.ReplaceAll(deed, "%", c.prefix)
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		var rows [][]any
		got, err := tx.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err == nil {
			rows, err = pgx.CollectRows(got, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		}
		lines = append(lines, fmt.Sprintf("%s: %v %s", deed, rows, pg.Code(err)))
		require.NoError(t, tx.Rollback(ctx))
	}
	for _, reset := range []string{"RESET ALL", "DISCARD ALL", "RESET ROLE", "RESET SESSION AUTHORIZATION"} {
		_, err := conn.Exec(ctx, reset, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
		lines = append(lines, reset+": "+ask("SELECT concat_ws(' ', current_user, session_user, current_setting('search_path'), current_setting('DateStyle'), current_setting('app.tenant', true), (SELECT count(*) FROM work.rows))")[0])
	}
	return lines
}

// TestEveryRoleMayTheSameAfterASwitch logs in as each of a score of kinds of roles before and after a switch, and compares what
// each may see and do. Nobody's password is known but the owner's: the roles are made on the target with others.
func TestEveryRoleMayTheSameAfterASwitch(t *testing.T) {
	t.Parallel()
	s := ownSides(t) // changes of its roles would be seen by the runs of other tests
	c := newCast(t, s)
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	pgtest.Exec(t, admin, "GRANT SELECT ON pg_catalog.pg_authid TO "+s.source.User())
	for name, options := range map[string]string{"expired": "LOGIN PASSWORD 'pw' VALID UNTIL '2001-01-01'", "nologin": "NOLOGIN PASSWORD 'pw'", "outside": "LOGIN PASSWORD 'pw'"} {
		name = c.prefix + name
		pgtest.Exec(t, admin, "CREATE ROLE "+name+" "+options)
		if !strings.HasSuffix(name, "outside") {
			pgtest.Exec(t, admin, "GRANT CONNECT ON DATABASE "+s.source.Database()+" TO "+name)
		}
		t.Cleanup(func() {
			pgtest.DropRole(t, s.sourceCluster, s.source.Database(), name)
			if c.has(t, name) {
				pgtest.DropRole(t, s.targetCluster, s.target.Database(), name)
			}
		})
	}
	p := newProcess(t, s, "--map-role=postgres=-")
	p.start()
	blocked := func(code string) func(control.Status) bool {
		return func(st control.Status) bool {
			return slices.ContainsFunc(st.Blockers, func(b control.Blocker) bool { return b.Code == code && strings.Contains(b.Detail, c.prefix) })
		}
	}
	if pgtest.Value(t, admin, "SELECT current_setting('server_version_num')::int < 160000") == "true" {
		// Before PostgreSQL 16 only a superuser hands out BYPASSRLS.
		p.await("the role that would see fewer rows is named", blocked("login_loses"))
		pgtest.Exec(t, adminOf(t, s.targetCluster, "postgres"), "ALTER ROLE "+c.prefix+"bypass BYPASSRLS")
	}
	p.awaitFollowing()
	// A role that comes now is made as well, and a membership follows.
	late := c.prefix + "late"
	pgtest.Exec(t, admin, "CREATE ROLE "+late+" LOGIN PASSWORD 'pw-secret-of-mine'; GRANT CONNECT ON DATABASE "+s.source.Database()+" TO "+late+"; GRANT "+c.prefix+"group TO "+late)
	t.Cleanup(func() {
		pgtest.DropRole(t, s.sourceCluster, s.source.Database(), late)
		pgtest.DropRole(t, s.targetCluster, s.target.Database(), late)
	})
	c.names = append(c.names, late)
	require.Eventually(t, func() bool { return c.has(t, late) }, patience, 200*time.Millisecond)

	refused := func(user string) string {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.ConnectConfig(ctx, p.proxied().WithUser(user, "pw").Config())
		if err == nil {
			_ = conn.Close(ctx)
		}
		return pg.Code(err)
	}
	outside := func() (codes []string) {
		for _, name := range []string{"expired", "nologin", "outside", "nobody"} {
			codes = append(codes, name+" "+refused(c.prefix+name))
		}
		// The third session of a role that may have two.
		var held []*pgx.Conn
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			conn, err := pgx.ConnectConfig(ctx, p.proxied().WithUser(c.prefix+"limited", "pw-secret-of-mine").Config())
			cancel()
			codes = append(codes, "limited "+pg.Code(err))
			if err == nil {
				held = append(held, conn)
			}
		}
		for _, conn := range held {
			require.NoError(t, conn.Close(t.Context()))
		}
		return codes
	}
	look := func() map[string][]string {
		out := map[string][]string{s.source.User(): c.sees(t, p, s.source.User(), s.source.Password())}
		for _, role := range c.names {
			out[role] = c.sees(t, p, role, "pw-secret-of-mine")
		}
		return out
	}
	before, shut := look(), outside()
	require.NotContains(t, shut[2], "00000")
	require.Equal(t, "limited 53300", shut[len(shut)-1])
	require.Zero(t, p.cutover().ClientErrors)
	p.awaitWhole()
	require.Equal(t, shut, outside(), "who was kept out is kept out")
	after := look()
	for role, lines := range before {
		name := strings.TrimPrefix(role, c.prefix)
		require.Greater(t, len(lines), 150, name)
		for i, want := range lines {
			require.Equal(t, want, after[role][i], "%s, line %d", name, i)
		}
		require.Len(t, after[role], len(lines), name)
	}

	// No application gets at what the journal keeps.
	for _, role := range append(slices.Clone(c.names), s.source.User()) {
		password := "pw-secret-of-mine"
		if role == s.source.User() {
			password = s.source.Password()
		}
		conn, err := pgx.ConnectConfig(t.Context(), p.proxied().WithUser(role, password).Config())
		require.NoError(t, err)
		for _, sql := range []string{"DROP SCHEMA crossfade CASCADE", "DELETE FROM crossfade.login", "SET ROLE " + s.target.User(), "ALTER TABLE crossfade.login OWNER TO " + role} {
			_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
			require.Equal(t, pg.CodeInsufficientPrivilege, pg.Code(err), "%s: %s", role, sql)
		}
		_, err = conn.Exec(t.Context(), "SELECT * FROM crossfade.login", pgx.QueryExecModeSimpleProtocol)
		if role != c.prefix+"everything" { // may read every table by its nature: it finds an encrypted password
			require.Equal(t, pg.CodeInsufficientPrivilege, pg.Code(err), role)
		}
		require.NoError(t, conn.Close(t.Context()))
	}
	require.NotContains(t, p.log.String(), "Cf-", "no password in the log")
}
