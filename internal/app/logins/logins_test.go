package logins

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike/neontest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// newNeonLoginFixture is a loginFixture whose target is like Neon, and whose source lets in only
// its own roles.
func newNeonLoginFixture(t *testing.T) *loginFixture {
	t.Helper()
	l := newLoginFixture(t)
	l.target = neontest.Database(t, neontest.Endpoint(t, neontest.Shared(t)))
	l.journal = pgtest.Conn(t, l.target)
	require.NoError(t, journal.InstallTarget(t.Context(), l.journal, journal.TargetRun{RunID: "r", Key: "k", Mode: "run"}))
	pgtest.Exec(t, l.super, "REVOKE CONNECT ON DATABASE "+l.source.Database()+" FROM PUBLIC")
	return l
}

// app makes a role of the source that may connect, and goes from the target at the end.
func (l *loginFixture) app(t *testing.T, name, options string) string {
	t.Helper()
	name = l.role(t, name, options)
	pgtest.Exec(t, l.super, "GRANT CONNECT ON DATABASE "+l.source.Database()+" TO "+name)
	return name
}

// roleOf is what a side has on a role, in one line.
func roleOf(t *testing.T, conn *pgx.Conn, role string) string {
	t.Helper()
	return pgtest.Value(t, conn, `SELECT concat_ws(' ', rolcanlogin, rolinherit, rolsuper, rolcreatedb, rolcreaterole, rolconnlimit, rolvaliduntil AT TIME ZONE 'UTC',
		(SELECT string_agg(concat(g.rolname, m.admin_option), ',' ORDER BY g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid),
		(SELECT array_agg(s ORDER BY s) FROM pg_db_role_setting, unnest(setconfig) s WHERE setrole = r.oid AND setdatabase = 0)) FROM pg_roles r WHERE rolname = '`+role+`'`)
}

// The source's roles are made under their names, follow what becomes of them there, keep their
// passwords after a restart, and go again.
func TestLoginsAreMadeAndFollowTheSource(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newNeonLoginFixture(t)
	group, second := l.role(t, "group", "NOLOGIN"), l.role(t, "second", "NOLOGIN")
	app := l.app(t, "app", "LOGIN PASSWORD 'pw' CONNECTION LIMIT 3 VALID UNTIL '2100-01-01'")
	pgtest.Exec(t, l.super, "GRANT "+group+" TO "+app+"; ALTER ROLE "+app+" SET work_mem = '3MB'; ALTER ROLE "+app+" SET role = '"+group+"'")
	owner := pgtest.Value(t, l.super, "SELECT datdba::regrole FROM pg_database WHERE datname = current_database()")
	u := l.users(t, "", zerolog.Nop())
	ensure := func(u *Users) { require.NoError(t, u.Logins.Ensure(ctx, l.super, l.journal)) }
	ensure(u)
	require.Equal(t, roleOf(t, l.super, app), roleOf(t, l.journal, app))
	require.Equal(t, owner, pgtest.Value(t, l.journal, "SELECT datdba::regrole FROM pg_database WHERE datname = current_database()"), "the database belongs to the same role")
	require.Equal(t, "false", pgtest.Value(t, l.journal, "SELECT pg_has_role('"+app+"', '"+l.target.User()+"', 'MEMBER')"))
	enters := func(u *Users) string {
		name, password, ok := u.targetCredentials(app)
		require.True(t, ok)
		require.Equal(t, app, name)
		conn, err := pg.Connect(ctx, l.target.WithUser(name, password))
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
		return password
	}
	password := enters(u)
	require.Equal(t, "0", pgtest.Value(t, l.journal, "SELECT count(*) FROM crossfade.login WHERE strpos(encode(secret, 'escape'), '"+password+"') > 0"), "what is kept is encrypted")

	for _, sql := range []string{
		"ALTER ROLE " + app + " CONNECTION LIMIT 7 NOINHERIT CREATEDB VALID UNTIL 'infinity'", "REVOKE " + group + " FROM " + app, "GRANT " + second + " TO " + app + " WITH ADMIN OPTION",
		"ALTER ROLE " + app + " SET work_mem = '4MB'", "ALTER ROLE " + app + " RESET role", "ALTER ROLE " + app + " SET statement_timeout = '9s'", "REVOKE ADMIN OPTION FOR " + second + " FROM " + app,
		"ALTER ROLE " + app + " NOCREATEDB INHERIT", "ALTER ROLE " + app + " NOLOGIN", "ALTER ROLE " + app + " LOGIN",
	} {
		pgtest.Exec(t, l.super, sql)
		ensure(u)
		require.Equal(t, strings.Replace(roleOf(t, l.super, app), " infinity ", " ", 1), strings.Replace(roleOf(t, l.journal, app), " infinity ", " ", 1), sql)
	}
	late := l.app(t, "late", "LOGIN PASSWORD 'pw'")
	ensure(u)
	require.Equal(t, roleOf(t, l.super, late), roleOf(t, l.journal, late), "made while following")

	again := l.users(t, "", zerolog.Nop())
	require.NoError(t, again.Load(ctx, l.journal))
	require.Equal(t, password, enters(again), "kept for the next start")
	other := *l
	pgtest.Exec(t, pgtest.Conn(t, neontest.Shared(t).AdminDSN("postgres")), "ALTER ROLE "+l.target.User()+" PASSWORD 'Another-one-of-60-bits'")
	other.target = l.target.WithUser(l.target.User(), "Another-one-of-60-bits")
	renewed := other.users(t, "", zerolog.Nop())
	require.NoError(t, renewed.Load(ctx, l.journal))
	require.NotEqual(t, password, enters(renewed), "encrypted with the password of --target: with another one they are replaced")

	var told []string
	require.NoError(t, DropLogins(ctx, l.journal, func(s string) { told = append(told, s) }))
	require.True(t, slices.ContainsFunc(told, func(s string) bool { return s == "target: role "+app }), told)
	require.Equal(t, "0", pgtest.Value(t, l.journal, "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, '"+l.base+"')"))
	require.Equal(t, l.target.User(), pgtest.Value(t, l.journal, "SELECT datdba::regrole FROM pg_database WHERE datname = current_database()"))
}

// At the end a role gets the password that is known, and the others are told.
func TestLoginsAreHandedOver(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newNeonLoginFixture(t)
	good, weak, unknown := l.app(t, "good", "LOGIN"), l.app(t, "weak", "LOGIN"), l.app(t, "unknown", "LOGIN PASSWORD 'pw'")
	u := l.users(t, usersFile(t, "%s Long-enough-password-1\n%s short\n", good, weak), zerolog.Nop())
	require.NoError(t, u.Logins.Ensure(ctx, l.super, l.journal))
	notes, err := u.Logins.HandOver(ctx, l.journal)
	require.NoError(t, err)
	all := strings.Join(notes, "\n")
	require.Contains(t, notes[0], good)
	require.NotContains(t, notes[0], weak, "Neon refuses it")
	require.Contains(t, notes[1], `ALTER ROLE "`+unknown+`" PASSWORD`)
	require.NotContains(t, all, "Long-enough")
	for _, role := range []string{good, weak, unknown} {
		name, password, ok := u.targetCredentials(role)
		require.True(t, ok)
		conn, err := pg.Connect(ctx, l.target.WithUser(name, password))
		require.NoError(t, err, role)
		require.NoError(t, conn.Close(ctx))
	}
	_, password, _ := u.targetCredentials(good)
	require.Equal(t, "Long-enough-password-1", password)
	require.NoError(t, DropLogins(ctx, l.journal, func(string) {}))
}

// standing makes a role of the target that no run has made.
func (l *loginFixture) standing(t *testing.T, name, options string) {
	t.Helper()
	c := neontest.Shared(t)
	pgtest.Exec(t, pgtest.Conn(t, c.AdminDSN("postgres")), "CREATE ROLE "+name+" "+options)
	t.Cleanup(func() { pgtest.DropRole(t, c, l.target.Database(), name) })
}

// Roles that were on the target before a run are logged in by the password of the users file also
// where nobody tried it: at a start after the switch, and with a line that came since.
func TestRolesThatWereThereAreLoggedInAfterARestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newNeonLoginFixture(t)
	app, mapped, wrong, late := l.app(t, "app", "LOGIN PASSWORD 'pw-app'"), l.app(t, "mapped", "LOGIN PASSWORD 'pw-mapped'"), l.app(t, "wrong", "LOGIN PASSWORD 'pw'"), l.app(t, "late", "LOGIN PASSWORD 'pw'")
	bare, group := l.app(t, "bare", "LOGIN PASSWORD 'pw'"), l.role(t, "group", "NOLOGIN")
	pgtest.Exec(t, l.super, "GRANT "+group+" TO "+app)
	l.standing(t, app, "LOGIN PASSWORD 'pw-app'")
	l.standing(t, wrong, "LOGIN PASSWORD 'another'")
	l.standing(t, late, "LOGIN PASSWORD 'late'")
	l.standing(t, bare, "LOGIN PASSWORD 'pw'")
	file := usersFile(t, "%s pw-app\n%s pw-mapped\n%s pw\n%s pw\n%s pw\n", app, mapped, wrong, late, group)
	start := func() *Users {
		u := l.users(t, file, zerolog.Nop())
		u.cfg.MapRole = map[string]string{mapped: app}
		u.Logins.cfg = u.cfg
		return u
	}
	credentials := func(u *Users, role string) string {
		name, password, ok := u.targetCredentials(role)
		if !ok {
			return ""
		}
		return name + "/" + password
	}
	u := start()
	require.NoError(t, u.Logins.Ensure(ctx, l.super, l.journal))
	require.NoError(t, u.Pin(ctx, l.journal, zerolog.Nop()))
	for role, want := range map[string]string{app: app + "/pw-app", mapped: app + "/pw-app", wrong: "", late: "", bare: "", group: ""} {
		require.Equal(t, want, credentials(u, role), "tried: %s", role)
	}

	again := start() // after the switch: nothing is tried any more
	require.NoError(t, again.Load(ctx, l.journal))
	for role, want := range map[string]string{app: app + "/pw-app", mapped: app + "/pw-app", wrong: wrong + "/pw", bare: "", group: "", l.target.User(): ""} {
		require.Equal(t, want, credentials(again, role), "not tried: %s", role)
	}
	for _, x := range []*Users{u, again} { // the password of the target's role, written into the file since
		require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%s pw-app\n%s late\n%s pw\n", app, late, bare), 0o600))
		_, err := x.Read()
		require.NoError(t, err)
		require.Equal(t, late+"/late", credentials(x, late))
		require.Equal(t, bare+"/pw", credentials(x, bare))
		name, password, _ := x.targetCredentials(late)
		conn, err := pg.Connect(ctx, l.target.WithUser(name, password))
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	}
	require.NoError(t, DropLogins(ctx, l.journal, func(string) {}))
}

// A role whose sessions are all taken on the target, or that is kept off it until the switch, ends
// neither check nor run: it is named, and no longer once the remedy was typed.
func TestARoleThatTheTargetHasNoSessionForIsNamed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newNeonLoginFixture(t)
	off, busy, app := l.app(t, "off", "LOGIN PASSWORD 'pw'"), l.app(t, "busy", "LOGIN PASSWORD 'pw' CONNECTION LIMIT 1"), l.app(t, "app", "LOGIN PASSWORD 'pw'")
	l.standing(t, off, "LOGIN PASSWORD 'pw' CONNECTION LIMIT 0")
	l.standing(t, busy, "LOGIN PASSWORD 'pw' CONNECTION LIMIT 1")
	l.standing(t, app, "LOGIN PASSWORD 'pw'")
	_ = pgtest.Conn(t, l.target.WithUser(busy, "pw"))
	admin := pgtest.Conn(t, neontest.Shared(t).AdminDSN(l.target.Database()))
	file := usersFile(t, "%s pw\n%s pw\n%s pw\n", off, busy, app)
	u := l.users(t, file, zerolog.Nop())
	told := func(role string) []watch.Notice {
		all, err := u.Ask(ctx, l.super, l.journal)
		require.NoError(t, err)
		return slices.DeleteFunc(all, func(n watch.Notice) bool { return n.Warns || !strings.HasPrefix(n.Detail, "role "+role+" ") })
	}
	checked, err := Surveyed(ctx, l.super, l.journal, u.cfg)
	require.NoError(t, err, "check goes on")
	require.NotEmpty(t, checked.Logins.full(busy))
	limited := fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT ", pg.QuoteIdent(l.target.Database()))
	for _, x := range []struct{ role, code, says, before, remedy string }{
		{off, "login_limit", "the target 0", "", "ALTER ROLE " + pg.QuoteIdent(off) + " CONNECTION LIMIT -1"},
		{busy, "login_full", "too many connections for role", "", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + busy + "'"},
		{app, "login_full", "too many connections for database", limited + "1", limited + "-1"},
	} {
		if x.before != "" {
			pgtest.Exec(t, admin, x.before)
			again := l.users(t, file, zerolog.Nop()) // which has not logged it in yet
			u = again
		}
		found := told(x.role)
		require.Len(t, found, 1, "%v", found)
		require.Equal(t, x.code, found[0].Code)
		require.Contains(t, found[0].Detail, x.says)
		remedy, _, _ := strings.Cut(found[0].Remedy, " on the target")
		require.Equal(t, x.remedy, remedy)
		pgtest.Exec(t, admin, remedy)
		require.Eventually(t, func() bool { return len(told(x.role)) == 0 }, pgtest.Timeout, 50*time.Millisecond, "typed as printed, the remedy removes it: %s", x.role)
		name, password, ok := u.targetCredentials(x.role)
		require.True(t, ok)
		require.Equal(t, []string{x.role, "pw"}, []string{name, password})
	}
	require.NoError(t, DropLogins(ctx, l.journal, func(string) {}))
}

// A password that the target refused is tried again: the remedy may be to give the role that very
// one.
func TestARefusedPasswordIsTriedAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newNeonLoginFixture(t)
	app := l.app(t, "app", "LOGIN PASSWORD 'pw-of-more-than-60-bits-1'")
	l.standing(t, app, "LOGIN PASSWORD 'another-of-more-than-60-bits-1'")
	u := l.users(t, usersFile(t, "%s pw-of-more-than-60-bits-1\n", app), zerolog.Nop())
	u.Logins.rest = 0
	codes := func() (out []string) {
		all, err := u.Ask(ctx, l.super, l.journal)
		require.NoError(t, err)
		for _, n := range all {
			if strings.HasPrefix(n.Detail, "role "+app+" ") && !n.Warns {
				out = append(out, n.Code)
			}
		}
		return out
	}
	require.Equal(t, []string{"login_unknown"}, codes())
	pgtest.Exec(t, pgtest.Conn(t, neontest.Shared(t).AdminDSN("postgres")), "ALTER ROLE "+app+" PASSWORD 'pw-of-more-than-60-bits-1'")
	require.Empty(t, codes())
	require.NoError(t, DropLogins(ctx, l.journal, func(string) {}))
}

// A group is mapped as well as a role that logs in: in what ALTER ROLE sets, and in what sessions
// are told.
func TestAMappedGroupIsTranslated(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newNeonLoginFixture(t)
	group, app := l.role(t, "group", "NOLOGIN"), l.app(t, "app", "LOGIN PASSWORD 'pw'")
	there := l.base + "there"
	l.standing(t, there, "NOLOGIN")
	pgtest.Exec(t, pgtest.Conn(t, neontest.Shared(t).AdminDSN("postgres")), "GRANT "+there+" TO "+l.target.User()+" WITH ADMIN OPTION")
	pgtest.Exec(t, l.super, "GRANT "+group+" TO "+app+"; ALTER ROLE "+app+" SET role = '"+group+"'")
	var out bytes.Buffer
	log := zerolog.New(&out)
	u := l.users(t, "", log)
	u.cfg.MapRole = map[string]string{group: there}
	u.Logins.cfg = u.cfg
	_, target := u.Endpoints()
	require.Equal(t, there, target.Role(group))
	require.Equal(t, app, target.Role(app))
	require.NoError(t, u.Logins.Ensure(ctx, l.super, l.journal))
	require.Equal(t, "{role="+there+"}", pgtest.Value(t, l.journal, "SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase = 0 AND setrole = '"+app+"'::regrole"))
	require.NotContains(t, out.String(), "follows the source", "it is made so at once")
	require.NoError(t, u.Pin(ctx, l.journal, log))
	require.Equal(t, group, u.pins[app]["role"], "kept, under the name of the source: %s", out.String())
	require.NoError(t, DropLogins(ctx, l.journal, func(string) {}))
}

// What the target does not let the run change is tried once, is told as what it is, and is tried
// again when the source asks for it again or the role of --target may do more.
func TestARefusedChangeOfARoleRests(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newNeonLoginFixture(t)
	app := l.app(t, "app", "LOGIN PASSWORD 'pw'")
	outside := l.role(t, "outside", "NOLOGIN")
	l.standing(t, outside, "NOLOGIN SUPERUSER") // which a role with CREATEROLE may not grant
	admin := pgtest.Conn(t, neontest.Shared(t).AdminDSN("postgres"))
	var out bytes.Buffer
	u := l.users(t, "", zerolog.New(&out))
	ensure := func() string {
		out.Reset()
		require.NoError(t, u.Logins.Ensure(ctx, l.super, l.journal))
		return out.String()
	}
	ensure()
	pgtest.Exec(t, l.super, "GRANT "+outside+" TO "+app)
	first := ensure()
	require.NotContains(t, first, "follows the source")
	require.Contains(t, first, "membership in "+outside+" is left out")
	require.Len(t, u.Logins.refused, 1)
	tries := func() string {
		u.Logins.mu.Lock()
		u.Logins.found = nil // so that a refusal would be told once more
		u.Logins.mu.Unlock()
		return ensure()
	}
	require.NotContains(t, tries(), "left out", "not tried again")
	pgtest.Exec(t, l.super, "REVOKE "+outside+" FROM "+app)
	require.NotContains(t, tries(), "left out")
	pgtest.Exec(t, l.super, "GRANT "+outside+" TO "+app)
	require.Contains(t, tries(), "left out", "the source asks for it again")
	pgtest.Exec(t, admin, "ALTER ROLE "+outside+" NOSUPERUSER; GRANT "+outside+" TO "+l.target.User()+" WITH ADMIN OPTION")
	require.Contains(t, tries(), "follows the source", "the role of --target may now")
	require.Equal(t, "true", pgtest.Value(t, l.journal, "SELECT pg_has_role('"+app+"', '"+outside+"', 'MEMBER')"))
	require.NoError(t, DropLogins(ctx, l.journal, func(string) {}))
}

// After the switch CONNECT on the target decides who may connect, and no longer what the source
// said last; a role that is another one there, which may connect, stays shut out.
func TestConnectOnTheTargetCountsAfterTheSwitch(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := newNeonLoginFixture(t)
	unknown := l.role(t, "unknown", "LOGIN PASSWORD 'pw'")
	outside, renamed, other := l.role(t, "outside", "LOGIN PASSWORD 'pw'"), l.role(t, "renamed", "LOGIN PASSWORD 'pw'"), l.base+"other"
	l.standing(t, outside, "LOGIN PASSWORD 'pw'")
	l.standing(t, other, "LOGIN PASSWORD 'pw'")
	u := l.users(t, usersFile(t, "%s pw\n%s pw %s pw\n", outside, renamed, other), zerolog.Nop())
	require.NoError(t, u.Roles.renew(ctx, 0))
	_, target := u.Endpoints()
	for _, role := range []string{outside, renamed} {
		require.True(t, target.ShutOut(role), "while the source is active: %s", role)
	}
	_, _, ok := u.targetCredentials(outside)
	require.False(t, ok)

	u.Roles.Active = func() bool { return false }
	require.False(t, target.ShutOut(outside))
	require.True(t, target.ShutOut(renamed))
	require.True(t, target.ShutOut(unknown), "in the words of a server, not for want of credentials")
	admin := pgtest.Conn(t, neontest.Shared(t).AdminDSN(l.target.Database()))
	pgtest.Exec(t, admin, "REVOKE CONNECT ON DATABASE "+l.target.Database()+" FROM PUBLIC; GRANT CONNECT ON DATABASE "+l.target.Database()+" TO "+l.target.User())
	enter := func() error {
		name, password, ok := u.targetCredentials(outside)
		require.True(t, ok)
		conn, err := pg.Connect(ctx, l.target.WithUser(name, password))
		if err == nil {
			require.NoError(t, conn.Close(ctx))
		}
		return err
	}
	require.ErrorContains(t, enter(), "permission denied for database")
	pgtest.Exec(t, admin, "GRANT CONNECT ON DATABASE "+l.target.Database()+" TO "+outside)
	require.NoError(t, enter())
}

// Who connects, and who is mapped or shut out, is the operator's and the source's word.
func TestMappedRolesAreNotMade(t *testing.T) {
	t.Parallel()
	l := newNeonLoginFixture(t)
	app, none, outside := l.app(t, "app", "LOGIN PASSWORD 'pw'"), l.app(t, "none", "LOGIN PASSWORD 'pw'"), l.role(t, "outside", "LOGIN PASSWORD 'pw'")
	u := l.users(t, "", zerolog.Nop())
	u.cfg.MapRole = map[string]string{app: l.target.User(), none: NoRole}
	u.Logins.cfg = u.cfg
	require.NoError(t, u.Roles.renew(t.Context(), 0))
	require.NoError(t, u.Logins.Ensure(t.Context(), l.super, l.journal))
	name, password, ok := u.targetCredentials(app)
	require.True(t, ok)
	require.Equal(t, []string{l.target.User(), l.target.Password()}, []string{name, password})
	for _, role := range []string{none, outside} {
		_, _, ok = u.targetCredentials(role)
		require.False(t, ok, role)
	}
	require.True(t, u.shutOut(outside))
	require.Equal(t, none+" false", pgtest.Value(t, l.journal, "SELECT string_agg(concat_ws(' ', rolname, rolcanlogin::text), ',') FROM pg_roles WHERE starts_with(rolname, '"+l.base+"')"))
	require.NoError(t, DropLogins(t.Context(), l.journal, func(string) {}))
}
