package backend_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/tlsconf/tlstest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// patience bounds each wait for PostgreSQL: test machines are shared and slow.
const patience = time.Minute

func dial(t *testing.T, c backend.Config) (*backend.Conn, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	c.ConnectTimeout = patience
	conn, err := backend.Dial(ctx, c)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// ask runs a simple query and returns the first column of its rows, and the server's error.
func ask(t *testing.T, c *backend.Conn, sql string) ([]string, *wire.ServerError) {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	defer func() { _ = c.SetDeadline(time.Time{}) }()
	_, err := c.Write(wiretest.AppendQuery(nil, sql))
	require.NoError(t, err)
	r := wire.NewReader(c, 0)
	var rows []string
	var refused *wire.ServerError
	for {
		f, err := r.Next()
		require.NoError(t, err)
		switch f.Type {
		case 'D':
			row, err := wire.DecodeDataRow(nil, f.Body)
			require.NoError(t, err)
			rows = append(rows, string(row[0]))
		case 'E':
			refused, err = wire.DecodeError(f.Body)
			require.NoError(t, err)
		case 'Z':
			return rows, refused
		}
	}
}

// cluster has a role for each authentication method, with the password "pw", and TLS.
func cluster(t *testing.T, ca *tlstest.Authority) (*pgcluster.Cluster, backend.Config) {
	t.Helper()
	c := pgtest.Own(t, pgtest.Source, func(cfg *pgcluster.Config) {
		cfg.HBA = []string{
			"host all u_md5 127.0.0.1/32 md5", "host all u_trust 127.0.0.1/32 trust", "host all u_clear 127.0.0.1/32 password",
			"hostssl all u_ssl 127.0.0.1/32 scram-sha-256", "hostnossl all u_ssl 127.0.0.1/32 reject",
			"hostnossl all u_nossl 127.0.0.1/32 scram-sha-256", "hostssl all u_nossl 127.0.0.1/32 reject",
		}
	})
	pair := ca.Issue(t, "127.0.0.1", "localhost")
	cert, err := c.WriteFile("server.crt", pair.CertPEM, 0o600)
	require.NoError(t, err)
	key, err := c.WriteFile("server.key", pair.KeyPEM, 0o600)
	require.NoError(t, err)
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	for _, sql := range []string{
		"set password_encryption = 'md5'", "create role u_md5 login password 'pw'",
		"set password_encryption = 'scram-sha-256'", "create role u_scram login password 'pw'", "create role u_umlaut login password 'pa\u00adsswörd'",
		"create role u_trust login", "create role u_clear login password 'pw'", "create role u_ssl login password 'pw'", "create role u_nossl login password 'pw'",
		"alter system set ssl_cert_file = '" + cert + "'", "alter system set ssl_key_file = '" + key + "'", "alter system set ssl = on", "select pg_reload_conf()",
	} {
		pgtest.Exec(t, admin, sql)
	}
	base := backend.Config{Address: net.JoinHostPort(c.Host(), strconv.Itoa(c.Port())), User: "u_scram", Password: "pw", Database: "postgres"}
	require.Eventually(t, func() bool { // the postmaster takes the new settings in its own time
		probe := base
		probe.TLS = mode(t, "require", "")
		conn, err := dial(t, probe)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, patience, 50*time.Millisecond)
	return c, base
}

func mode(t *testing.T, sslmode, root string) tlsconf.Client {
	t.Helper()
	dsn := "host=127.0.0.1 sslmode=" + sslmode
	if root != "" {
		dsn += " sslrootcert=" + root
	}
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return tlsconf.FromPgx(cfg)
}

func TestLogIn(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewAuthority(t, false)
	c, base := cluster(t, ca)
	bound := mode(t, "verify-full", ca.RootFile)
	bound.Binding = tlsconf.BindingRequire
	unbound := mode(t, "require", "")
	unbound.Binding = tlsconf.BindingDisable
	insist := tlsconf.Client{Binding: tlsconf.BindingRequire}
	for name, x := range map[string]struct {
		user, password string
		tls            tlsconf.Client
		encrypted      bool
		code, err      string
	}{
		"scram":                    {"u_scram", "pw", tlsconf.Client{}, false, "", ""},
		"scram, prepared password": {"u_umlaut", "passwörd", tlsconf.Client{}, false, "", ""},
		"scram plus":               {"u_scram", "pw", bound, true, "", ""},
		"scram over TLS":           {"u_scram", "pw", unbound, true, "", ""},
		"verify-ca":                {"u_scram", "pw", mode(t, "verify-ca", ca.RootFile), true, "", ""},
		"prefer":                   {"u_scram", "pw", mode(t, "prefer", ""), true, "", ""},
		"allow":                    {"u_scram", "pw", mode(t, "allow", ""), false, "", ""},
		"md5":                      {"u_md5", "pw", tlsconf.Client{}, false, "", ""},
		"md5 over TLS":             {"u_md5", "pw", mode(t, "require", ""), true, "", ""},
		"trust":                    {"u_trust", "", tlsconf.Client{}, false, "", ""},
		"clear over TLS":           {"u_clear", "pw", mode(t, "require", ""), true, "", ""},
		"clear without TLS":        {"u_clear", "pw", tlsconf.Client{}, false, "", "in clear text without TLS"},
		"allow, TLS demanded":      {"u_ssl", "pw", mode(t, "allow", ""), true, "", ""},
		"prefer, TLS refused":      {"u_nossl", "pw", mode(t, "prefer", ""), false, "", ""},
		"require, TLS refused":     {"u_nossl", "pw", mode(t, "require", ""), false, "28000", "pg_hba.conf"},
		"wrong password":           {"u_scram", "no", tlsconf.Client{}, false, "28P01", "password authentication failed"},
		"wrong password, prefer":   {"u_scram", "no", mode(t, "prefer", ""), false, "28P01", "password authentication failed"},
		"wrong md5":                {"u_md5", "no", tlsconf.Client{}, false, "28P01", "password authentication failed"},
		"no password":              {"u_scram", "", tlsconf.Client{}, false, "", "none is known"},
		"unknown user":             {"nobody", "pw", tlsconf.Client{}, false, "28P01", ""},
		"unknown authority":        {"u_scram", "pw", mode(t, "verify-full", tlstest.NewAuthority(t, false).RootFile), false, "", "unknown authority"},
		"binding without TLS":      {"u_scram", "pw", insist, false, "", "channel binding is required"},
		"binding with md5":         {"u_md5", "pw", bound, false, "", "channel binding is required"},
		"binding with trust":       {"u_trust", "pw", bound, false, "", "channel binding is required"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := base
			cfg.User, cfg.Password, cfg.TLS = x.user, x.password, x.tls
			conn, err := dial(t, cfg)
			if x.err != "" || x.code != "" {
				require.ErrorContains(t, err, x.err)
				require.NotContains(t, err.Error(), "pw\"")
				var refused *wire.ServerError
				if x.code != "" {
					require.ErrorAs(t, err, &refused)
					require.Equal(t, x.code, refused.Code)
				}
				return
			}
			require.NoError(t, err)
			require.Equal(t, x.encrypted, conn.TLS())
			rows, refused := ask(t, conn, "select ssl::text from pg_stat_ssl where pid = pg_backend_pid() union all select current_user union all select pg_backend_pid()::text")
			require.Nil(t, refused)
			require.Equal(t, []string{strconv.FormatBool(x.encrypted), x.user, strconv.Itoa(int(conn.PID))}, rows)
			require.Equal(t, "UTF8", conn.Params["server_encoding"])
			require.Len(t, conn.Key, 4)
		})
	}
	t.Run("require_auth", func(t *testing.T) {
		t.Parallel()
		for user, method := range map[string]string{"u_scram": "scram-sha-256", "u_md5": "md5", "u_trust": "none"} {
			for _, allowed := range []bool{true, false} {
				cfg := base
				cfg.User = user
				cfg.AllowsAuth = func(m string) bool { return (m == method) == allowed }
				_, err := dial(t, cfg)
				if allowed {
					require.NoError(t, err, user)
				} else {
					require.ErrorContains(t, err, "require_auth does not let the server ask for "+method)
				}
			}
		}
	})
	t.Run("unix socket", func(t *testing.T) {
		t.Parallel()
		cfg := base
		cfg.Address = filepath.Join(c.Dir(), ".s.PGSQL."+strconv.Itoa(c.Port()))
		cfg.TLS = mode(t, "prefer", "")
		conn, err := dial(t, cfg)
		require.NoError(t, err)
		require.False(t, conn.TLS())
	})
	for _, x := range []backend.Config{base, {Address: base.Address, User: base.User, Password: base.Password, Database: base.Database, TLS: mode(t, "require", "")}} {
		t.Run("cancel, sslmode "+x.TLS.Mode.String(), func(t *testing.T) {
			t.Parallel()
			conn, err := dial(t, x)
			require.NoError(t, err)
			cancelled(t, conn)
		})
	}
}

// cancelled cancels a statement that waits, again and again until it has begun.
func cancelled(t *testing.T, conn *backend.Conn) {
	t.Helper()
	over := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				if err := conn.Cancel(context.Background()); err != nil {
					t.Errorf("cancel: %v", err)
					return
				}
			}
		}
	}()
	_, refused := ask(t, conn, "select pg_sleep(60)")
	close(over)
	<-stopped
	require.NotNil(t, refused)
	require.Equal(t, "57014", refused.Code)
}

func TestStartupParameters(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	cfg := backend.Config{
		Address: net.JoinHostPort(dsn.Host(), strconv.Itoa(int(dsn.Port()))), User: dsn.User(), Password: dsn.Password(), Database: dsn.Database(),
		Params: []wire.Param{{Name: "application_name", Value: "it's me"}, {Name: "options", Value: `-c app.tenant_id=a\ b`}, {Name: "user", Value: "postgres"}, {Name: "_pq_.x", Value: "1"}},
	}
	conn, err := dial(t, cfg)
	require.NoError(t, err)
	require.Equal(t, "it's me", conn.Params["application_name"])
	rows, refused := ask(t, conn, "select current_setting('app.tenant_id') union all select current_user")
	require.Nil(t, refused)
	require.Equal(t, []string{"a b", dsn.User()}, rows)

	cfg.Params = []wire.Param{{Name: "application_name", Value: "a\x00role\x00postgres"}}
	_, err = dial(t, cfg)
	require.ErrorContains(t, err, "contains NUL")
	cfg.Params, cfg.Database = nil, "nowhere"
	_, err = dial(t, cfg)
	var told *wire.ServerError
	require.True(t, errors.As(err, &told))
	require.Equal(t, "3D000", told.Code)
}
