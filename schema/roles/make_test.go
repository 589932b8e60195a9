package roles_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

// What the target's role may not give is left out and named; the rest is given.
func TestRolesAreMadeAsFarAsTheTargetAllows(t *testing.T) {
	t.Parallel()
	src, dst := pgtest.Shared(t, pgtest.Source), pgtest.Shared(t, pgtest.Target)
	p := pairtest.New(t)
	prefix := "x" + strings.ToLower(rand.Text()[:8])
	app, group, boss := prefix+"_app", prefix+`_"group`, prefix+"_boss"
	q := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	admin := pgtest.Conn(t, src.AdminDSN("postgres"))
	pgtest.Exec(t, admin, "CREATE ROLE "+app+" LOGIN CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2040-01-01' PASSWORD 'geheim'; CREATE ROLE "+q(group)+" NOLOGIN NOINHERIT; CREATE ROLE "+boss+" SUPERUSER REPLICATION BYPASSRLS;"+
		"COMMENT ON ROLE "+app+" IS 'it''s the app'; GRANT "+q(group)+" TO "+app+" WITH ADMIN OPTION; GRANT pg_monitor TO "+app+"; GRANT "+app+" TO "+p.Source.User()+
		"; ALTER ROLE "+app+" SET search_path = a, \"B c\"; ALTER ROLE "+app+" SET log_min_messages = 'debug1'; ALTER ROLE "+p.Source.User()+" SET statement_timeout = '77s'")
	targetAdmin := pgtest.Conn(t, dst.AdminDSN("postgres"))
	t.Cleanup(func() {
		for _, name := range []string{app, group, boss} {
			pgtest.Exec(t, pgtest.Conn(t, src.AdminDSN("postgres")), "DROP ROLE "+q(name))
			pgtest.Exec(t, pgtest.Conn(t, dst.AdminDSN("postgres")), "DROP ROLE IF EXISTS "+q(name))
		}
	})
	pgtest.Exec(t, targetAdmin, "ALTER ROLE "+p.Target.User()+" CREATEROLE CREATEDB")

	source, target := pgtest.Conn(t, p.Source), pgtest.Conn(t, p.Target)
	known, err := roles.Read(t.Context(), source)
	require.NoError(t, err)
	require.Contains(t, known.Names(), app)
	require.NotContains(t, known.Names(), "pg_monitor")
	// Others make roles in the cluster at the same time.
	ours := roles.Roles{}
	for _, r := range known.Roles {
		if strings.HasPrefix(r.Name, prefix) {
			ours.Roles = append(ours.Roles, r)
		}
	}
	for _, m := range known.Memberships {
		if strings.HasPrefix(m.Role, prefix) || strings.HasPrefix(m.Member, prefix) {
			ours.Memberships = append(ours.Memberships, m)
		}
	}
	ours.Settings = known.Settings
	mapped := map[string]string{p.Source.User(): p.Target.User()}
	report, err := roles.Make(t.Context(), target, ours, mapped, nil, zerolog.Nop())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{app, group, boss}, report.Made)
	var found []string
	for _, f := range report.Findings {
		require.True(t, f.Harmless)
		require.NotEmpty(t, f.Remedy)
		require.NotContains(t, f.String(), "geheim")
		found = append(found, f.Name+": "+f.Message)
	}
	all := strings.Join(found, "\n")
	require.Contains(t, all, app+": made without a password")
	require.Contains(t, all, boss+": SUPERUSER is left out")
	require.Contains(t, all, boss+": BYPASSRLS is left out")
	require.Contains(t, all, app+": setting log_min_messages is left out")

	value := func(sql string) string { return pgtest.Value(t, target, sql) }
	require.Equal(t, "true true 3 2040-01-01 00:00:00+00 it's the app", value(`SELECT concat_ws(' ', rolcanlogin::text, rolcreatedb::text, rolconnlimit, rolvaliduntil, shobj_description(oid, 'pg_authid')) FROM pg_roles WHERE rolname = '`+app+`'`))
	require.Equal(t, "false false", value(`SELECT concat_ws(' ', rolcanlogin::text, rolinherit::text) FROM pg_roles WHERE rolname = '`+group+`'`))
	require.Equal(t, `{"search_path=a, \"B c\""}`, value(`SELECT setconfig FROM pg_db_role_setting WHERE setrole = '`+app+`'::regrole`))
	require.Equal(t, "true", value(`SELECT admin_option FROM pg_auth_members WHERE roleid = '`+q(group)+`'::regrole AND member = '`+app+`'::regrole`))
	require.Equal(t, "1", value(`SELECT count(*) FROM pg_auth_members WHERE roleid = '`+app+`'::regrole AND member = '`+p.Target.User()+`'::regrole`), "the mapped role is the member")

	// Again nothing changes, and a role that is there is left as it is.
	pgtest.Exec(t, targetAdmin, "ALTER ROLE "+app+" CONNECTION LIMIT 9")
	report, err = roles.Make(t.Context(), target, ours, mapped, nil, zerolog.Nop())
	require.NoError(t, err)
	require.Empty(t, report.Made)
	require.Empty(t, report.Findings)
	require.Equal(t, "9", value(`SELECT rolconnlimit FROM pg_roles WHERE rolname = '`+app+`'`))

	// The settings of the mapped role come over by themselves, but for what the target has.
	findings, err := roles.CopySettings(t.Context(), source, target, mapped)
	require.NoError(t, err)
	require.Empty(t, findings)
	own := `SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = '` + p.Target.User() + `'::regrole`
	require.Equal(t, "{statement_timeout=77s}", value(own))
	pgtest.Exec(t, admin, "ALTER ROLE "+p.Source.User()+" SET statement_timeout = '88s'; ALTER ROLE "+p.Source.User()+" SET work_mem = '3MB'")
	_, err = roles.CopySettings(t.Context(), source, target, mapped)
	require.NoError(t, err)
	require.Equal(t, "{statement_timeout=77s,work_mem=3MB}", value(own))
}

// An owner becomes the owner where the role that restores may make it so; else the
// objects stay with that role, and a note says so.
func TestOwnersAreKeptWhereTheTargetAllows(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	dst := pgtest.Shared(t, pgtest.Target)
	admin := pgtest.Conn(t, p.Admin)
	keeper, other := "keeper_"+p.Reader, "stranger_"+p.Reader
	for _, role := range []string{keeper, other} {
		pairtest.MakeRole(t, pgtest.Shared(t, pgtest.Source), role)
	}
	pairtest.MakeRole(t, dst, "other_"+other)
	pgtest.Exec(t, admin, `CREATE SCHEMA app; ALTER SCHEMA app OWNER TO `+p.Source.User()+`; CREATE SCHEMA theirs AUTHORIZATION `+keeper+`;
		CREATE TABLE app.t (id serial PRIMARY KEY, v text); ALTER TABLE app.t OWNER TO `+keeper+`;
		CREATE TABLE theirs.t (id integer PRIMARY KEY REFERENCES app.t); ALTER TABLE theirs.t OWNER TO `+keeper+`;
		CREATE STATISTICS app.s ON id, v FROM app.t; ALTER STATISTICS app.s OWNER TO `+keeper+`;
		CREATE VIEW app.v AS SELECT * FROM app.t; ALTER VIEW app.v OWNER TO `+p.Reader+`;
		CREATE TABLE app.u (); ALTER TABLE app.u OWNER TO `+other+`;
		CREATE TABLE app.mine (); ALTER TABLE app.mine OWNER TO `+p.Source.User()+`;
		REVOKE ALL ON app.t FROM `+keeper+`; GRANT SELECT ON app.t TO `+keeper)
	t.Cleanup(func() {
		pgtest.Exec(t, pgtest.Conn(t, p.Admin), "DROP OWNED BY "+keeper+", "+p.Reader+", "+other+" CASCADE")
	})
	// The source's roles of these names are others on the target, where p.reader's is a superuser,
	// whom nobody can become, and the other session's does not exist.
	target := pgtest.Conn(t, p.Target)
	pgtest.Exec(t, pgtest.Conn(t, dst.AdminDSN("postgres")), "ALTER ROLE "+p.Target.User()+" CREATEROLE; ALTER ROLE other_"+p.Reader+" SUPERUSER")
	pgtest.Exec(t, target, "CREATE ROLE "+keeper)
	t.Cleanup(func() {
		pgtest.Exec(t, pgtest.Conn(t, dst.AdminDSN(p.Target.Database())), "DROP OWNED BY "+keeper+" CASCADE; DROP ROLE "+keeper)
	})

	data, err := archive.Dump(t.Context(), archive.DumpConfig{DSN: p.Admin})
	require.NoError(t, err)
	a, err := plan.ParseArchive(data)
	require.NoError(t, err)
	planned := plan.New(a)
	owners, findings, err := planned.ResolveOwners(t.Context(), target, p.Roles)
	require.NoError(t, err)
	require.Equal(t, map[string]string{keeper: keeper}, owners.Roles)
	require.False(t, owners.Super)
	require.Len(t, findings, 2)
	require.Contains(t, findings[0].String(), p.Reader+": owns 1 objects")
	require.Contains(t, findings[1].String(), "the target has no such role")

	cfg := restore.Config{Conns: pairtest.Conns(t, p, 1), Rewrite: plan.Rewrite{Roles: p.Roles, Owners: owners}, Log: zerolog.Nop()}
	for _, part := range []plan.Part{plan.PreData, plan.AfterCopy, plan.Decision, plan.Last} {
		report, err := restore.Restore(t.Context(), planned, part, cfg)
		require.NoError(t, err)
		require.Empty(t, report.Findings)
	}
	owner := func(name string) string {
		return pgtest.Value(t, target, `SELECT relowner::regrole FROM pg_class WHERE oid = '`+name+`'::regclass`)
	}
	for name, want := range map[string]string{"app.t": keeper, "app.t_id_seq": keeper, "theirs.t": keeper, "app.v": p.Target.User(), "app.u": p.Target.User(), "app.mine": p.Target.User()} {
		require.Equal(t, want, owner(name), name)
	}
	require.Equal(t, keeper, pgtest.Value(t, target, `SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'theirs'`))
	require.Equal(t, keeper, pgtest.Value(t, target, `SELECT stxowner::regrole FROM pg_statistic_ext WHERE stxname = 's'`))
	require.Equal(t, "false", pgtest.Value(t, target, `SELECT has_schema_privilege('`+keeper+`', 'app', 'CREATE')`), "it may create there for the moment only")
	require.Equal(t, "{"+keeper+"=r/"+keeper+"}", pgtest.Value(t, target, `SELECT relacl FROM pg_class WHERE oid = 'app.t'::regclass`))
	require.Equal(t, "1", pgtest.Value(t, target, `SELECT count(*) FROM pg_constraint WHERE contype = 'f'`), "rights are taken from owners after what needs them")
}
