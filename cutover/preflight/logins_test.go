package preflight

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// hall is a pair of databases with roles of its own on both sides.
type hall struct {
	*fixture
	prefix string
}

func newHall(t *testing.T) *hall {
	h := &hall{fixture: newFixture(t), prefix: "l" + strings.ToLower(rand.Text()[:8]) + "_"}
	pgtest.Exec(t, h.targetAdmin, "GRANT CONNECT ON DATABASE "+h.targetDSN.Database()+" TO PUBLIC")
	t.Cleanup(func() {
		h.sweep(t, pgtest.Shared(t, pgtest.Source), h.sourceDSN)
		h.sweep(t, pgtest.Shared(t, pgtest.Target), h.targetDSN)
	})
	return h
}

// sweep drops the roles of the hall, also those that a remedy has made or named otherwise.
func (h *hall) sweep(t *testing.T, c *pgcluster.Cluster, dsn pg.DSN) {
	t.Helper()
	ctx := context.Background()
	conn, err := pg.Connect(ctx, c.AdminDSN("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT rolname::text FROM pg_roles WHERE starts_with(rolname, $1)", h.prefix)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, name := range names {
		pgtest.DropRole(t, c, dsn.Database(), pg.QuoteIdent(name))
	}
}

// role makes a role of the hall on a side, on the source with the right to connect.
func (h *hall) role(t *testing.T, name, onSource, onTarget string) string {
	t.Helper()
	name = h.prefix + name
	if onSource != "" {
		pgtest.Exec(t, h.sourceAdmin, "CREATE ROLE "+pg.QuoteIdent(name)+" "+onSource+"; GRANT CONNECT ON DATABASE "+h.sourceDSN.Database()+" TO "+pg.QuoteIdent(name))
	}
	if onTarget != "" {
		pgtest.Exec(t, h.targetAdmin, "CREATE ROLE "+pg.QuoteIdent(name)+" "+onTarget)
	}
	return name
}

// names asks who could not log in or would be somebody else, of the roles of the hall.
func (h *hall) names(t *testing.T, change ...func(*inquiry.Logins)) []answer.Finding {
	t.Helper()
	l := inquiry.Logins{TargetRole: h.targetDSN.User(), LetsIn: func(string) bool { return true }, Enters: func(string) bool { return true }}
	for _, c := range change {
		c(&l)
	}
	found, err := CompareLogins(t.Context(), pgtest.Conn(t, h.sourceDSN), pgtest.Conn(t, h.targetDSN), l, nil)
	require.NoError(t, err)
	return slices.DeleteFunc(found, func(f answer.Finding) bool { return !strings.HasPrefix(f.Object, h.prefix) })
}

// Who may not connect to the target's database is told once, with the statement that helps.
func TestALoginThatMayNotConnectIsNamed(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	pgtest.Exec(t, h.targetAdmin, "REVOKE CONNECT ON DATABASE "+h.targetDSN.Database()+" FROM PUBLIC; GRANT CONNECT ON DATABASE "+h.targetDSN.Database()+" TO "+h.targetDSN.User())
	role := h.role(t, "outside", "LOGIN", "LOGIN")
	found := h.names(t)
	require.Equal(t, []seen{{answer.Blocker, "login_connect", role}}, short(found))
	h.typed(t, found...)
	require.Empty(t, h.names(t))
}

// Whoever has more, or less that matters, on the target is named before anybody moves.
func TestALoginWithOtherRightsOnTheTargetIsNamed(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	pgtest.Exec(t, h.source, "CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY")
	group := h.role(t, "group", "NOLOGIN", "NOLOGIN")
	for _, c := range []struct {
		name, source, target string
		more                 string // said on the source, @ for the role
		want                 seen
		words                string
	}{
		{"equal", "LOGIN CONNECTION LIMIT 3", "LOGIN CONNECTION LIMIT 3", "", seen{}, ""},
		{"absent", "LOGIN", "", "", seen{}, ""},
		{"console", "LOGIN", "LOGIN BYPASSRLS CREATEROLE CREATEDB REPLICATION", "", seen{answer.Blocker, "login_gains", ""}, "every row of 1 tables"},
		{"reader", "LOGIN", "LOGIN IN ROLE pg_read_all_data", "", seen{answer.Blocker, "login_gains", ""}, "membership in pg_read_all_data"},
		{"super", "LOGIN", "LOGIN SUPERUSER", "", seen{answer.Blocker, "login_gains", ""}, "SUPERUSER"},
		{"boss", "LOGIN SUPERUSER", "LOGIN", "", seen{answer.Blocker, "login_superuser", ""}, "--map-role"},
		{"boss2", "LOGIN SUPERUSER", "", "", seen{answer.Blocker, "login_superuser", ""}, "=-"},
		{"sees", "LOGIN BYPASSRLS", "LOGIN", "", seen{answer.Blocker, "login_loses", ""}, "BYPASSRLS"},
		{"sees2", "LOGIN BYPASSRLS", "", "", seen{answer.Blocker, "login_loses", ""}, "BYPASSRLS"},
		{"walsender", "LOGIN REPLICATION", "LOGIN", "", seen{answer.Warning, "login_loses", ""}, "REPLICATION"},
		{"member", "LOGIN", "LOGIN", "GRANT " + group + " TO @", seen{answer.Blocker, "login_loses", ""}, group},
		{"inherits", "LOGIN NOINHERIT IN ROLE " + group, "LOGIN IN ROLE " + group, "", seen{answer.Blocker, "login_gains", ""}, "without SET ROLE"},
		{"limit", "LOGIN CONNECTION LIMIT 2", "LOGIN", "", seen{answer.Blocker, "login_limit", ""}, "CONNECTION LIMIT 2"},
		{"until", "LOGIN VALID UNTIL '2100-01-01'", "LOGIN VALID UNTIL '2001-01-01'", "", seen{answer.Blocker, "login_valid_until", ""}, "2001"},
		{"setting", "LOGIN", "LOGIN", "ALTER ROLE @ SET role = '" + group + "'", seen{answer.Warning, "login_settings", ""}, "role"},
		{"locked", "LOGIN", "NOLOGIN", "", seen{answer.Blocker, "login_locked", ""}, "may not log in"},
		{"shut out", "NOLOGIN", "LOGIN SUPERUSER", "", seen{}, ""},
	} {
		role := h.role(t, strings.ReplaceAll(c.name, " ", "_"), c.source, c.target)
		pgtest.Exec(t, h.sourceAdmin, strings.ReplaceAll(c.more, "@", role))
		found := slices.DeleteFunc(h.names(t), func(f answer.Finding) bool { return f.Object != role })
		if c.want == (seen{}) {
			require.Empty(t, found, c.name)
			continue
		}
		c.want.Object = role
		require.Equal(t, []seen{c.want}, short(found), c.name)
		require.Contains(t, found[0].Detail+found[0].Remedy, c.words, c.name)
		require.NotEmpty(t, found[0].Remedy)
		accepted := h.names(t, func(l *inquiry.Logins) { l.Accepted = []string{role} })
		if c.want.Code != "login_locked" {
			require.False(t, slices.ContainsFunc(accepted, func(f answer.Finding) bool { return f.Object == role && f.Severity == answer.Blocker }), "%s: the operator's word", c.name)
		}
	}
	require.Empty(t, slices.DeleteFunc(h.names(t, func(l *inquiry.Logins) { l.LetsIn = nil }), func(f answer.Finding) bool { return f.Severity != answer.Blocker }), "whom nobody lets in")
}

// Without a password for the target, and as the role of --target, a login is named.
func TestALoginWithoutCredentialsAtTheTargetIsNamed(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	app := h.role(t, "app", "LOGIN", "LOGIN")
	unknown := func(l *inquiry.Logins) { l.Enters = func(string) bool { return false } }
	require.Equal(t, []seen{{answer.Blocker, "login_unknown", app}}, short(h.names(t, unknown)))
	none := func(l *inquiry.Logins) { l.Mapped = map[string]string{app: inquiry.NoLogin} }
	require.Empty(t, h.names(t, unknown, none), "it is not to log in there")
	require.Equal(t, []seen{{answer.Blocker, "login_missing", app}}, short(h.names(t, func(l *inquiry.Logins) { l.Mapped = map[string]string{app: h.prefix + "nobody"} })))

	require.Equal(t, []seen{{answer.Blocker, "login_is_target_role", app}}, short(h.names(t, func(l *inquiry.Logins) { l.TargetRole = app })))
	mapped := func(l *inquiry.Logins) { l.Mapped = map[string]string{app: h.targetDSN.User()} }
	found := h.names(t, mapped)
	require.Equal(t, seen{answer.Warning, "login_is_target_role", app}, short(found)[0])
	require.Contains(t, found[0].Detail, "read and drop what Crossfade keeps")

	// A tenant's role that is mapped to one of Neon's console would see every tenant's rows.
	console := h.role(t, "console", "", "LOGIN BYPASSRLS")
	pgtest.Exec(t, h.source, "CREATE TABLE t (tenant int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (tenant = current_setting('app.t')::int)")
	found = h.names(t, func(l *inquiry.Logins) { l.Mapped = map[string]string{app: console} })
	require.Equal(t, []seen{{answer.Blocker, "login_gains", app}}, short(found))
	require.Contains(t, found[0].Detail, "every row of 1 tables")

	pgtest.Exec(t, h.targetAdmin, "ALTER ROLE "+h.targetDSN.User()+" NOCREATEROLE")
	late := h.role(t, "late", "LOGIN", "")
	all, err := CompareLogins(t.Context(), pgtest.Conn(t, h.sourceDSN), pgtest.Conn(t, h.targetDSN), inquiry.Logins{TargetRole: h.targetDSN.User()}, nil)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(all, func(f answer.Finding) bool {
		return f.Code == "no_createrole" && f.Severity == answer.Blocker && strings.Contains(f.Detail, late)
	}), "%v", all)
}

// Where the catalog decides by a role's name, another name is another result.
func TestALoginUnderAnotherNameIsNamedWhereTheCatalogAsksForIt(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	app, there := h.role(t, "app", "LOGIN", ""), h.role(t, "there", "", "LOGIN")
	mapped := func(l *inquiry.Logins) { l.Mapped = map[string]string{app: there} }
	pgtest.Exec(t, h.source, "CREATE TABLE t (id int, owner text)")
	require.Empty(t, h.names(t, mapped))
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
		pgtest.Exec(t, h.sourceAdmin, "SET search_path = public; SET check_function_bodies = off; "+sql)
		found := h.names(t, mapped)
		if object[0] == "" {
			require.Empty(t, found, sql)
		} else {
			require.Equal(t, []seen{{answer.Blocker, "login_identity", app}}, short(found), sql)
			require.Contains(t, found[0].Detail, object[0])
			require.Empty(t, h.names(t), "under its own name nothing changes")
		}
		pgtest.Exec(t, h.sourceAdmin, object[1])
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
