package plan

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/roles"
)

func TestMapRoles(t *testing.T) {
	t.Parallel()
	known := map[string]string{"app": "neon", "Odd, role": "o\"dd"}
	for _, c := range []struct{ name, sql, want string }{
		{"grant", `GRANT SELECT ON TABLE s.t TO app WITH GRANT OPTION;`, `GRANT SELECT ON TABLE s.t TO "neon" WITH GRANT OPTION;`},
		{"unknown role", `GRANT SELECT ON TABLE s.t TO other;`, `GRANT SELECT ON TABLE s.t TO other;`},
		{"public", `GRANT ALL ON SCHEMA app TO PUBLIC;`, `GRANT ALL ON SCHEMA app TO PUBLIC;`},
		{"a role called public is quoted", `GRANT ALL ON SCHEMA s TO "Odd, role";`, `GRANT ALL ON SCHEMA s TO "o""dd";`},
		{"revoke", `REVOKE GRANT OPTION FOR ALL ON FUNCTION s.f(app text, VARIADIC "to" integer[]) FROM app;`, `REVOKE GRANT OPTION FOR ALL ON FUNCTION s.f(app text, VARIADIC "to" integer[]) FROM "neon";`},
		{"schema of the same name", `GRANT SELECT(app),UPDATE(app) ON TABLE app.app TO app;`, `GRANT SELECT(app),UPDATE(app) ON TABLE app.app TO "neon";`},
		{"session authorization", "SET SESSION AUTHORIZATION app;\nGRANT SELECT ON TABLE t TO app;\nRESET SESSION AUTHORIZATION;\n", "\nGRANT SELECT ON TABLE t TO \"neon\";\n"},
		{"default privileges", `ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app REVOKE ALL ON TABLES FROM app;`, `ALTER DEFAULT PRIVILEGES FOR ROLE "neon" IN SCHEMA app REVOKE ALL ON TABLES FROM "neon";`},
		{"policy", `CREATE POLICY app ON app.t FOR SELECT TO x, app, PUBLIC USING ((app = 'to app')) WITH CHECK ((app IS NOT NULL));`, `CREATE POLICY app ON app.t FOR SELECT TO x, "neon", PUBLIC USING ((app = 'to app')) WITH CHECK ((app IS NOT NULL));`},
		{"policy without roles", `CREATE POLICY p ON t USING ((SELECT to_app FROM app));`, `CREATE POLICY p ON t USING ((SELECT to_app FROM app));`},
		{"user mapping", `CREATE USER MAPPING FOR app SERVER app OPTIONS (app 'x');`, `CREATE USER MAPPING FOR "neon" SERVER app OPTIONS (app 'x');`},
		{"row security", `ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;`, `ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;`},
	} {
		got, left := roles.Map(c.sql, known)
		require.Equal(t, c.want, got, c.name)
		require.Empty(t, left, c.name)
	}
	got, left := roles.Map("GRANT a TO app;\nGRANT SELECT ON TABLE t TO rdsadmin;\nGRANT b TO app;", known)
	require.Equal(t, "GRANT a TO \"neon\";\nGRANT b TO \"neon\";", got)
	require.Equal(t, []string{"GRANT SELECT ON TABLE t TO rdsadmin"}, left)
}

func TestNotValid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sql, want string
		changed         bool
	}{
		{"plain", "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(id) ON DELETE CASCADE;\n\n", "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(id) ON DELETE CASCADE NOT VALID;\n\n", true},
		{"names full of traps", `ALTER TABLE ONLY s."x;NOT VALID" ADD CONSTRAINT "NOT VALID;" FOREIGN KEY ("foreign key;") REFERENCES "u;" DEFERRABLE INITIALLY DEFERRED;`, `ALTER TABLE ONLY s."x;NOT VALID" ADD CONSTRAINT "NOT VALID;" FOREIGN KEY ("foreign key;") REFERENCES "u;" DEFERRABLE INITIALLY DEFERRED NOT VALID;`, true},
		{"no semicolon", `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u -- c`, `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u NOT VALID -- c`, true},
		{"not deferrable", `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u NOT DEFERRABLE;`, `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u NOT DEFERRABLE NOT VALID;`, true},
		{"not valid already", `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u NOT VALID;`, `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u NOT VALID;`, false},
		{"not enforced", `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u NOT ENFORCED;`, `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES u NOT ENFORCED;`, false},
		{"unended", `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (`, `ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (`, false},
		{"no foreign key", `ALTER TABLE t ADD CONSTRAINT k CHECK (a > 0);`, `ALTER TABLE t ADD CONSTRAINT k CHECK (a > 0);`, false},
	} {
		got, changed := notValid(c.sql)
		require.Equal(t, c.want, got, c.name)
		require.Equal(t, c.changed, changed, c.name)
	}
	clause, valid, ok := foreignKeyClause("ALTER TABLE s.t\n ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES s.u(id);\n")
	require.True(t, ok && valid)
	require.Equal(t, "FOREIGN KEY (a) REFERENCES s.u(id)", clause)
}

func TestLogged(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"CREATE UNLOGGED TABLE s.unlogged (\n  unlogged text DEFAULT 'UNLOGGED'\n);": "CREATE TABLE s.unlogged (\n  unlogged text DEFAULT 'UNLOGGED'\n);",
		"CREATE UNLOGGED SEQUENCE s.q;":                                              "CREATE SEQUENCE s.q;",
		"ALTER SEQUENCE s.q SET UNLOGGED;":                                           "ALTER SEQUENCE s.q SET LOGGED;",
		"CREATE TABLE unlogged (a int);":                                             "CREATE TABLE unlogged (a int);",
		"ALTER TABLE a ALTER COLUMN unlogged SET STATISTICS 10;":                     "ALTER TABLE a ALTER COLUMN unlogged SET STATISTICS 10;",
	} {
		require.Equal(t, want, Logged(sql))
	}
}
