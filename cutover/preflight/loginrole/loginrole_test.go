package loginrole

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// names asks who could not log in or would be someone else, of the roles of the fixture.
func names(t *testing.T, h *preflighttest.RoleFixture, change ...func(*inquiry.Logins)) []answer.Finding {
	t.Helper()
	l := inquiry.Logins{TargetRole: h.TargetDSN.User(), LetsIn: func(string) bool { return true }, Enters: func(string) bool { return true }}
	for _, c := range change {
		c(&l)
	}
	found, err := Compare(t.Context(), pgtest.Conn(t, h.SourceDSN), pgtest.Conn(t, h.TargetDSN), l, nil)
	require.NoError(t, err)
	return slices.DeleteFunc(found, func(f answer.Finding) bool { return !strings.HasPrefix(f.Object, h.Prefix) })
}

// Who may not connect to the target's database is told once, with the statement that helps.
func TestALoginThatMayNotConnectIsNamed(t *testing.T) {
	t.Parallel()
	h := preflighttest.NewRoleFixture(t)
	pgtest.Exec(t, h.TargetAdmin, "REVOKE CONNECT ON DATABASE "+h.TargetDSN.Database()+" FROM PUBLIC; GRANT CONNECT ON DATABASE "+h.TargetDSN.Database()+" TO "+h.TargetDSN.User())
	role := h.Role(t, "outside", "LOGIN", "LOGIN")
	found := names(t, h)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "login_connect", role}}, preflighttest.Short(found))
	h.Typed(t, found...)
	require.Empty(t, names(t, h))
}

// Roles that have more rights on the target, or lack ones that matter, are named before any session
// moves.
func TestALoginWithOtherRightsOnTheTargetIsNamed(t *testing.T) {
	t.Parallel()
	h := preflighttest.NewRoleFixture(t)
	pgtest.Exec(t, h.Source, "CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
	group := h.Role(t, "group", "NOLOGIN", "NOLOGIN")
	for _, c := range []struct {
		name, source, target string
		more                 string // said on the source, @ for the role
		want                 preflighttest.Seen
		words                string
	}{
		{"equal", "LOGIN CONNECTION LIMIT 3", "LOGIN CONNECTION LIMIT 3", "", preflighttest.Seen{}, ""},
		{"absent", "LOGIN", "", "", preflighttest.Seen{}, ""},
		{"console", "LOGIN", "LOGIN BYPASSRLS CREATEROLE CREATEDB REPLICATION", "", preflighttest.Seen{answer.Blocker, "login_gains", ""}, "every row of 1 tables"},
		{"reader", "LOGIN", "LOGIN IN ROLE pg_read_all_data", "", preflighttest.Seen{answer.Blocker, "login_gains", ""}, "membership in pg_read_all_data"},
		{"super", "LOGIN", "LOGIN SUPERUSER", "", preflighttest.Seen{answer.Blocker, "login_gains", ""}, "SUPERUSER"},
		{"boss", "LOGIN SUPERUSER", "LOGIN", "", preflighttest.Seen{answer.Blocker, "login_superuser", ""}, "--map-role"},
		{"boss2", "LOGIN SUPERUSER", "", "", preflighttest.Seen{answer.Blocker, "login_superuser", ""}, "=-"},
		{"sees", "LOGIN BYPASSRLS", "LOGIN", "", preflighttest.Seen{answer.Blocker, "login_loses", ""}, "BYPASSRLS"},
		{"sees2", "LOGIN BYPASSRLS", "", "", preflighttest.Seen{answer.Blocker, "login_loses", ""}, "BYPASSRLS"},
		{"walsender", "LOGIN REPLICATION", "LOGIN", "", preflighttest.Seen{answer.Warning, "login_loses", ""}, "REPLICATION"},
		{"member", "LOGIN", "LOGIN", "GRANT " + group + " TO @", preflighttest.Seen{answer.Blocker, "login_loses", ""}, group},
		{"inherits", "LOGIN NOINHERIT IN ROLE " + group, "LOGIN IN ROLE " + group, "", preflighttest.Seen{answer.Blocker, "login_gains", ""}, "without SET ROLE"},
		{"limit", "LOGIN CONNECTION LIMIT 2", "LOGIN", "", preflighttest.Seen{answer.Blocker, "login_limit", ""}, "CONNECTION LIMIT 2"},
		{"until", "LOGIN VALID UNTIL '2100-01-01'", "LOGIN VALID UNTIL '2001-01-01'", "", preflighttest.Seen{answer.Blocker, "login_valid_until", ""}, "2001"},
		{"setting", "LOGIN", "LOGIN", "ALTER ROLE @ SET role = '" + group + "'", preflighttest.Seen{answer.Warning, "login_settings", ""}, "role"},
		{"locked", "LOGIN", "NOLOGIN", "", preflighttest.Seen{answer.Blocker, "login_locked", ""}, "may not log in"},
		{"shut out", "NOLOGIN", "LOGIN SUPERUSER", "", preflighttest.Seen{}, ""},
	} {
		role := h.Role(t, strings.ReplaceAll(c.name, " ", "_"), c.source, c.target)
		pgtest.Exec(t, h.SourceAdmin, strings.ReplaceAll(c.more, "@", role))
		found := slices.DeleteFunc(names(t, h), func(f answer.Finding) bool { return f.Object != role })
		if c.want == (preflighttest.Seen{}) {
			require.Empty(t, found, c.name)
			continue
		}
		c.want[2] = role
		require.Equal(t, []preflighttest.Seen{c.want}, preflighttest.Short(found), c.name)
		require.Contains(t, found[0].Detail+found[0].Remedy, c.words, c.name)
		require.NotEmpty(t, found[0].Remedy)
		accepted := names(t, h, func(l *inquiry.Logins) { l.Accepted = []string{role} })
		if c.want[1] != "login_locked" {
			require.False(t, slices.ContainsFunc(accepted, func(f answer.Finding) bool { return f.Object == role && f.Severity == answer.Blocker }), "%s: the operator's word", c.name)
		}
	}
	require.Empty(t, slices.DeleteFunc(names(t, h, func(l *inquiry.Logins) { l.LetsIn = nil }), func(f answer.Finding) bool { return f.Severity != answer.Blocker }), "whom nobody lets in")
}

// Without a password for the target, and as the role of --target, a login is named.
func TestALoginWithoutCredentialsAtTheTargetIsNamed(t *testing.T) {
	t.Parallel()
	h := preflighttest.NewRoleFixture(t)
	app := h.Role(t, "app", "LOGIN", "LOGIN")
	unknown := func(l *inquiry.Logins) { l.Enters = func(string) bool { return false } }
	found := names(t, h, unknown)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "login_unknown", app}}, preflighttest.Short(found))
	require.Contains(t, found[0].Remedy, "DROP ROLE")
	pgtest.Exec(t, h.TargetAdmin, "ALTER ROLE "+app+" SUPERUSER")
	for _, x := range names(t, h, unknown) {
		require.NotContains(t, x.Remedy, "DROP ROLE", "a superuser is not dropped for its password")
	}
	pgtest.Exec(t, h.TargetAdmin, "ALTER ROLE "+app+" NOSUPERUSER")
	none := func(l *inquiry.Logins) { l.Mapped = map[string]string{app: inquiry.NoLogin} }
	require.Empty(t, names(t, h, unknown, none), "it is not to log in there")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "login_missing", app}}, preflighttest.Short(names(t, h, func(l *inquiry.Logins) { l.Mapped = map[string]string{app: h.Prefix + "nobody"} })))

	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "login_is_target_role", app}}, preflighttest.Short(names(t, h, func(l *inquiry.Logins) { l.TargetRole = app })))
	mapped := func(l *inquiry.Logins) { l.Mapped = map[string]string{app: h.TargetDSN.User()} }
	found = names(t, h, mapped)
	require.Equal(t, preflighttest.Seen{answer.Warning, "login_is_target_role", app}, preflighttest.Short(found)[0])
	require.Contains(t, found[0].Detail, "read and drop what Crossfade keeps")

	// A tenant's role that is mapped to one of Neon's console would see every tenant's rows.
	console := h.Role(t, "console", "", "LOGIN BYPASSRLS")
	pgtest.Exec(t, h.Source, "CREATE TABLE t (tenant int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (tenant = current_setting('app.t')::int)")
	found = names(t, h, func(l *inquiry.Logins) { l.Mapped = map[string]string{app: console} })
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "login_gains", app}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "every row of 1 tables")

	pgtest.Exec(t, h.TargetAdmin, "ALTER ROLE "+h.TargetDSN.User()+" NOCREATEROLE")
	late := h.Role(t, "late", "LOGIN", "")
	all, err := Compare(t.Context(), pgtest.Conn(t, h.SourceDSN), pgtest.Conn(t, h.TargetDSN), inquiry.Logins{TargetRole: h.TargetDSN.User()}, nil)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(all, func(f answer.Finding) bool {
		return f.Code == "no_createrole" && f.Severity == answer.Blocker && strings.Contains(f.Detail, late)
	}), "%v", all)
}

// Where the catalog decides by a role's name, another name is another result.
func TestALoginUnderAnotherNameIsNamedWhereTheCatalogAsksForIt(t *testing.T) {
	t.Parallel()
	h := preflighttest.NewRoleFixture(t)
	app, there := h.Role(t, "app", "LOGIN", ""), h.Role(t, "there", "", "LOGIN")
	mapped := func(l *inquiry.Logins) { l.Mapped = map[string]string{app: there} }
	pgtest.Exec(t, h.Source, "CREATE TABLE t (id int, owner text)")
	require.Empty(t, names(t, h, mapped))
	for sql, object := range map[string][2]string{
		"CREATE POLICY p ON t USING (owner = current_user)":                                          {"policy public.t p", "DROP POLICY p ON t"},
		"ALTER TABLE t ALTER owner SET DEFAULT session_user":                                         {"default public.t.owner", "ALTER TABLE t ALTER owner DROP DEFAULT"},
		"ALTER TABLE t ADD CHECK (owner = user)":                                                     {"constraint public.t_owner_check", "ALTER TABLE t DROP CONSTRAINT t_owner_check"},
		"CREATE VIEW v AS SELECT * FROM t WHERE owner = current_role":                                {"view public.v", "DROP VIEW v"},
		"CREATE FUNCTION f() RETURNS boolean LANGUAGE sql AS $$ SELECT pg_has_role('x', 'USAGE') $$": {"function public.f()", "DROP FUNCTION f()"},
		"CREATE SCHEMA " + pg.QuoteIdent(app):                                                        {`"$user"`, "DROP SCHEMA " + pg.QuoteIdent(app)},
		"CREATE FUNCTION g() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT current_user::text; END":  {"function public.g()", "DROP FUNCTION g()"},
		"CREATE RULE r AS ON INSERT TO t WHERE new.owner <> current_user DO INSTEAD NOTHING":         {"rule public.t r", "DROP RULE r ON t"},
		"CREATE VIEW w AS SELECT 1 AS current_userless":                                              {"", "DROP VIEW w"},
	} {
		pgtest.Exec(t, h.SourceAdmin, "SET search_path = public; SET check_function_bodies = off; "+sql)
		found := names(t, h, mapped)
		if object[0] == "" {
			require.Empty(t, found, sql)
		} else {
			require.Equal(t, []preflighttest.Seen{{answer.Blocker, "login_identity", app}}, preflighttest.Short(found), sql)
			require.Contains(t, found[0].Detail, object[0])
			require.Empty(t, names(t, h), "under its own name nothing changes")
		}
		pgtest.Exec(t, h.SourceAdmin, object[1])
	}
}

// The owner of a database is a member of pg_database_owner from PostgreSQL 14 on, and of
// nothing before: that is no right that it gains by the move.
func TestOwningADatabaseIsNoMembership(t *testing.T) {
	t.Parallel()
	c := &comparison{}
	old, now := login{Name: "app", Member: []string{"staff"}}, login{Name: "app", Member: []string{"staff", "pg_database_owner"}, Uses: []string{"pg_database_owner"}}
	for _, x := range [][2]login{{old, now}, {now, old}} {
		more, less := c.memberships(x[0], x[1])
		require.Empty(t, more)
		require.Empty(t, less)
	}
	now.Member = append(now.Member, "boss")
	more, _ := c.memberships(old, now)
	require.Equal(t, []string{"boss"}, more)
}

// What is printed of a name is one word of a shell's.
func TestNamesInOptionsAreWordsOfAShell(t *testing.T) {
	t.Parallel()
	require.Equal(t, "--map-role app=-", mapRole("app", inquiry.NoLogin))
	require.Equal(t, "--accept-rights 'my app'", acceptRights("my app"))
	require.Equal(t, `--map-role 'it'\''s=x'`, mapRole("it's", "x"))
}

// The name under which a role is kept fits, and is no other role's half.
func TestAKeptRolesNameFits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 30) + "x"
	f := (&comparison{}).without(answer.Finding{}, login{Name: long}, login{Name: long})
	require.Contains(t, f.SQL, pg.QuoteIdent(strings.Repeat("ä", 28)+"_before"))
}
