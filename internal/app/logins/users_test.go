package logins

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/auth"
	"crossfade/proxy/tlsconf"
)

// loginFixture is a source whose secrets may be read, with roles of its own, and a target with a
// journal.
type loginFixture struct {
	source, target pg.DSN
	super, journal *pgx.Conn
	base           string // of the roles' names
	cluster        *pgcluster.Cluster
}

func newLoginFixture(t *testing.T) *loginFixture {
	t.Helper()
	l := &loginFixture{cluster: pgtest.Shared(t, pgtest.Source), base: "r" + strings.ToLower(rand.Text()[:8]) + "_"}
	db := pgtest.Database(t, l.cluster)
	l.source, l.target = l.cluster.AdminDSN(db.Database()), pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	l.super, l.journal = pgtest.Conn(t, l.source), pgtest.Conn(t, l.target)
	require.NoError(t, journal.InstallTarget(context.Background(), l.journal, journal.TargetRun{RunID: "r", Key: "k", Mode: "run"}))
	return l
}

func (l *loginFixture) role(t *testing.T, name, options string) string {
	t.Helper()
	name = l.base + name
	pgtest.Exec(t, l.super, "CREATE ROLE "+name+" "+options)
	t.Cleanup(func() { pgtest.DropRole(t, l.cluster, l.source.Database(), name) })
	return name
}

// users loads them as a start does.
func (l *loginFixture) users(t *testing.T, file string, log zerolog.Logger) *Users {
	t.Helper()
	u, err := Load(Config{Source: l.source, Target: l.target, Users: file}, log)
	require.NoError(t, err)
	u.Roles.Asking = dbconn.New(l.source)
	u.Roles.Active = func() bool { return true }
	t.Cleanup(u.Roles.Asking.Close)
	return u
}

func usersFile(t *testing.T, format string, args ...any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600))
	return file
}

// TestRolesOfTheSource: users whom the file does not know are known by what the source has, at once
// where it changes, and after a restart without the source by what was kept.
func TestRolesOfTheSource(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLoginFixture(t)
	app := l.role(t, "app", "LOGIN PASSWORD 'pw' VALID UNTIL '2100-01-01'")
	group := l.role(t, "group", "NOLOGIN")
	mapped := l.role(t, "mapped", "LOGIN PASSWORD 'pw'")
	filed := l.role(t, "filed", "NOLOGIN PASSWORD 'other' VALID UNTIL '2001-01-01'")
	file := usersFile(t, "%s - neon neonpw\n%s filepw\n", mapped, filed)
	var out bytes.Buffer
	u := l.users(t, file, zerolog.New(&out))
	known := func(u *Users, name string) auth.Secret {
		s, ok, err := u.Secret(ctx, name)
		require.NoError(t, err)
		require.True(t, ok, name)
		return s
	}
	plain := func(s auth.Secret) string { p, _ := s.Plaintext(); return p }
	require.True(t, known(u, app).Known())
	require.Empty(t, plain(known(u, app)))
	require.False(t, known(u, group).Known())
	require.True(t, known(u, mapped).Known(), "the file leaves it to the source")
	require.Equal(t, "filepw", plain(known(u, filed)), "the file has the say over the secret")
	_, ok, err := u.Secret(ctx, l.base+"nobody")
	require.NoError(t, err)
	require.False(t, ok)

	name, pw, ok := u.targetCredentials(mapped)
	require.True(t, ok)
	require.Equal(t, "neon/neonpw", name+"/"+pw)
	_, _, ok = u.sourceCredentials(mapped)
	require.False(t, ok, "it logs in by the client's own proof")
	_, _, ok = u.targetCredentials(app)
	require.False(t, ok)

	// A role that came a moment ago.
	late := l.role(t, "late", "LOGIN PASSWORD 'pw'")
	require.Eventually(t, func() bool { _, ok, err := u.Secret(ctx, late); return err == nil && ok }, pgtest.Timeout, 20*time.Millisecond)

	require.NoError(t, u.Pin(ctx, l.journal, zerolog.Nop()))
	restarted := l.users(t, file, zerolog.Nop())
	restarted.Roles.Asking, restarted.Roles.Active = dbconn.New(l.source.WithUser("nobody", "wrong")), func() bool { return false }
	require.NoError(t, restarted.Load(ctx, l.journal))
	for _, name := range []string{app, late, mapped} {
		require.True(t, known(restarted, name).Known(), name)
	}
	require.Equal(t, known(u, filed), known(restarted, filed), "its limits too")
	require.Equal(t, known(u, app), known(restarted, app))
	require.NotEqual(t, auth.Plain("filepw"), known(restarted, filed))
	require.NotContains(t, out.String(), "SCRAM-SHA-256$")
}

// TestSourceAway: a source that does not answer costs a login little, and what was read before
// counts.
func TestSourceAway(t *testing.T) {
	t.Parallel()
	l := newLoginFixture(t)
	app := l.role(t, "app", "LOGIN PASSWORD 'pw'")
	u := l.users(t, "", zerolog.Nop())
	_, ok, err := u.Secret(t.Context(), app)
	require.NoError(t, err)
	require.True(t, ok)
	u.Roles.Asking.Close()
	u.Roles.Asking = dbconn.New(l.source.WithUser(l.base+"x", "wrong"))
	t.Cleanup(u.Roles.Asking.Close)
	require.Error(t, u.Roles.renew(t.Context(), 0))
	require.True(t, u.Roles.young(time.Minute), "nobody else waits for it at once")
	_, ok, err = u.Secret(t.Context(), app)
	require.NoError(t, err)
	require.True(t, ok)
}

// TestUsersFileIsReadAgain: a good file counts at once, a broken one leaves what was, and says line
// and reason only.
func TestUsersFileIsReadAgain(t *testing.T) {
	t.Parallel()
	l := newLoginFixture(t)
	file := usersFile(t, "a first\nb second\n")
	u := l.users(t, file, zerolog.Nop())
	has := func(name, password string) bool {
		_, pw, ok := u.sourceCredentials(name)
		return ok && pw == password
	}
	require.True(t, has("a", "first"))
	require.NoError(t, os.WriteFile(file, []byte("a third\nc fourth\n"), 0o600))
	n, err := u.Read()
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.True(t, has("a", "third") && has("c", "fourth") && !has("b", "second"))
	require.True(t, has(l.source.User(), l.source.Password()))
	for _, broken := range []string{"a fifth\nc s3cret superfluous\n", "a fifth\na s3cret\n", "a \"s3cret\n"} {
		require.NoError(t, os.WriteFile(file, []byte(broken), 0o600))
		_, err = u.Read()
		require.ErrorContains(t, err, ": line ")
		require.NotContains(t, err.Error(), "s3cret")
	}
	require.NoError(t, os.WriteFile(file, []byte("a fifth\n"), 0o600))
	require.NoError(t, os.Chmod(file, 0o644))
	_, err = u.Read()
	require.ErrorContains(t, err, "chmod 600")
	require.NoError(t, os.Remove(file))
	_, err = u.Read()
	require.ErrorIs(t, err, os.ErrNotExist)
	require.True(t, has("a", "third") && has("c", "fourth"))
}

// TestServersOfNeonAreVerified: the proxy's own connections to Neon are as safe as the others.
func TestServersOfNeonAreVerified(t *testing.T) {
	t.Parallel()
	const host = "ep-a.eu-central-1.aws.neon.tech"
	target, err := pg.ParseDSN("postgresql://u:p@" + host + "/d?sslmode=require")
	require.NoError(t, err)
	source, err := pg.ParseDSN("postgresql://u:p@db.example/d?sslmode=require")
	require.NoError(t, err)
	u, err := Load(Config{Source: source, Target: target}, zerolog.Nop())
	require.NoError(t, err)
	here, there := u.Endpoints()
	require.Equal(t, tlsconf.Require, here.Dial.TLS.Mode)
	require.Equal(t, tlsconf.VerifyFull, there.Dial.TLS.Mode)
	require.Equal(t, tlsconf.BindingRequire, there.Dial.TLS.Binding)
	require.Equal(t, host, there.Dial.TLS.Config.ServerName)
}

// The proxy dials by all that a connection string says, as our own sessions do.
func TestTheProxyDialsAsTheConnectionStringSays(t *testing.T) {
	t.Parallel()
	d, err := pg.ParseDSN("host=db.example user=u password=p dbname=d sslmode=verify-full sslrootcert=system sslsni=0 connect_timeout=7 keepalives_idle=11 require_auth=scram-sha-256")
	require.NoError(t, err)
	c := dialed(d)
	require.Equal(t, tlsconf.VerifyFull, c.TLS.Mode)
	require.Empty(t, c.TLS.Config.ServerName)
	require.NotNil(t, c.TLS.Config.VerifyConnection)
	require.EqualValues(t, 7e9, c.ConnectTimeout)
	require.EqualValues(t, 11e9, c.Dialer.KeepAliveConfig.Idle)
	require.True(t, c.AllowsAuth("scram-sha-256"))
	require.False(t, c.AllowsAuth("md5"))
}

// TestSettingsWithoutThePassword: what a role's sessions are told is found out without its password
// as with it.
func TestSettingsWithoutThePassword(t *testing.T) {
	t.Parallel()
	l := newLoginFixture(t)
	role := l.role(t, "app", "LOGIN PASSWORD 'pw'")
	for _, sql := range []string{
		"GRANT CONNECT ON DATABASE " + l.source.Database() + " TO PUBLIC",
		"ALTER ROLE " + role + " SET statement_timeout = '77s'", "ALTER ROLE " + role + " SET DateStyle = 'German'",
		"ALTER ROLE " + role + " IN DATABASE " + l.source.Database() + " SET DateStyle = 'SQL, DMY'",
		"ALTER DATABASE " + l.source.Database() + " SET search_path = 'od d', public", "ALTER DATABASE " + l.source.Database() + " SET statement_timeout = '5s'",
	} {
		pgtest.Exec(t, l.super, sql)
	}
	want, err := readPins(t.Context(), l.source.WithUser(role, "pw"))
	require.NoError(t, err)
	got, unknown, err := readRolePins(t.Context(), asOthers(t, l.source), role)
	require.NoError(t, err)
	require.Empty(t, unknown)
	require.Equal(t, "77s", got["statement_timeout"])
	require.Equal(t, "SQL, DMY", got["DateStyle"])
	require.Equal(t, want["search_path"], got["search_path"])
	require.Len(t, got, len(want))
	for name, value := range want {
		if name != "statement_timeout" { // 77s and 77000
			require.Equal(t, value, got[name], name)
		}
	}

	// What the role that asks has for itself alone is nobody else's.
	asking := l.role(t, "asking", "LOGIN PASSWORD 'pw'")
	pgtest.Exec(t, l.super, "ALTER ROLE "+asking+" SET IntervalStyle = 'iso_8601'")
	got, unknown, err = readRolePins(t.Context(), asOthers(t, l.source.WithUser(asking, "pw")), role)
	require.NoError(t, err)
	require.Equal(t, []string{"IntervalStyle"}, unknown)
	require.NotContains(t, got, "IntervalStyle")
}

// asOthers opens a session that is like an application's.
func asOthers(t *testing.T, dsn pg.DSN) *pgx.Conn {
	t.Helper()
	conn, err := plainConnect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestARoleThatIsNotLetInKeepsNobodyFromMoving: the settings of roles are read again in
// every attempt, in a session of their own where that can be had.
func TestARoleThatIsNotLetInKeepsNobodyFromMoving(t *testing.T) {
	t.Parallel()
	l := newLoginFixture(t)
	settings := " SET DateStyle = 'German'"
	broken := map[string]string{
		"locked": "NOLOGIN PASSWORD 'pw'", "full": "LOGIN PASSWORD 'pw' CONNECTION LIMIT 0", "wrong": "LOGIN PASSWORD 'another'", "odd": "LOGIN PASSWORD 'pw'",
	}
	lines := "nobody_" + l.base + " pw\n"
	for name, options := range broken {
		role := l.role(t, name, options)
		pgtest.Exec(t, l.super, "ALTER ROLE "+role+settings)
		lines += role + " pw\n"
	}
	pgtest.Exec(t, l.super, "ALTER ROLE "+l.base+"odd SET session_preload_libraries = 'is_not_there'") // the server ends its login
	u := l.users(t, usersFile(t, "%s", lines), zerolog.Nop())
	require.NoError(t, u.Pin(t.Context(), l.journal, zerolog.Nop()))
	for name := range broken {
		require.Contains(t, u.pins[l.base+name]["DateStyle"], "German", name)
	}
	require.NotEmpty(t, u.pins["nobody_"+l.base])

	// The run's own role has no connection left: what was read before counts, and where
	// nothing was, there is nothing to count on.
	owner := l.role(t, "owner", "LOGIN PASSWORD 'pw' CONNECTION LIMIT 0")
	u.cfg.Source = l.source.WithUser(owner, "pw")
	require.NoError(t, u.pinEach(t.Context(), l.journal, []string{l.base + "locked"}, zerolog.Nop()))
	require.ErrorContains(t, u.pinEach(t.Context(), l.journal, []string{l.base + "new"}, zerolog.Nop()), "too many connections")
}
