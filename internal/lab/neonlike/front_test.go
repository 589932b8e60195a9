package neonlike_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// psql runs one statement with libpq and returns what it says. The words in change
// come last in the connection string and so win.
func psql(t *testing.T, d pg.DSN, change, sql string, env ...string) (string, bool) {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	info, password := d.LibpqEnv()
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.Path("psql"), "-XAtqv", "VERBOSITY=verbose", "-d", info+" "+change, "-c", sql)
	cmd.Env = append(append(os.Environ(), password...), env...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err == nil
}

// TestClients has psql come in every way that Neon lets a client in or refuses it.
func TestClients(t *testing.T) {
	t.Parallel()
	p := shared(t)
	const nameless = "sslsni=0 channel_binding=prefer"
	for name, x := range map[string]struct {
		change, sql string
		env         []string
		ok          bool
		says        string
	}{
		"verified and bound":         {"", "SELECT current_user", nil, true, "neondb_owner"},
		"unbound":                    {"channel_binding=disable", "SELECT 7", nil, true, "7"},
		"not verified":               {"sslmode=require", "SELECT 7", nil, true, "7"},
		"plain":                      {"sslmode=disable channel_binding=prefer", "SELECT 7", nil, false, "connection is insecure (try using `sslmode=require`)"},
		"no name":                    {nameless, "SELECT 7", nil, false, "Endpoint ID is not specified"},
		"option":                     {nameless + " options=endpoint=" + p.ID(), "SELECT 7", nil, true, "7"},
		"deprecated option":          {nameless + " options=project=" + p.ID(), "SELECT 7", nil, true, "7"},
		"two options":                {nameless + " options='project=" + p.ID() + " endpoint=" + p.ID() + "'", "SELECT 7", nil, false, "Endpoint ID is not specified"},
		"another option":             {"options=endpoint=ep-other-1", "SELECT 7", nil, false, "Inconsistent project name inferred from SNI ('" + p.ID() + "') and project option ('ep-other-1')."},
		"endpoint in the password":   {nameless, "SELECT 7", []string{"PGPASSWORD=endpoint=" + p.ID() + ";" + p.Owner.Password()}, true, "7"},
		"the same with a dollar":     {nameless, "SELECT 7", []string{"PGPASSWORD=endpoint=" + p.ID() + "$" + p.Owner.Password()}, true, "7"},
		"the same, wrong":            {nameless, "SELECT 7", []string{"PGPASSWORD=endpoint=" + p.ID() + "$wrong"}, false, "password authentication failed for user 'neondb_owner'"},
		"wrong password":             {"", "SELECT 7", []string{"PGPASSWORD=wrong"}, false, "ERROR:  password authentication failed for user 'neondb_owner'"},
		"unknown role":               {"user=nobody", "SELECT 7", nil, false, "password authentication failed for user 'nobody'"},
		"the service's role":         {"user=cloud_admin", "SELECT 7", nil, false, "password authentication failed for user 'cloud_admin'"},
		"unknown endpoint":           {"host=ep-no-such-1." + neonlike.DefaultDomain, "SELECT 7", nil, false, "endpoint cannot be found"},
		"another domain":             {"host=ep-a.example sslmode=require", "SELECT 7", nil, false, "Common name inferred from SNI ('ep-a.example') is not known"},
		"unknown authority":          {"sslrootcert=/dev/null", "SELECT 7", nil, false, "certificate"},
		"unknown database":           {"dbname=nowhere", "SELECT 7", nil, false, `ERROR:  database "nowhere" does not exist`},
		"time zone of the client":    {"", "SHOW TimeZone", []string{"PGTZ=Asia/Tokyo"}, true, "UTC"},
		"the same, passed on":        {"options=neon_proxy_params_compat:true", "SHOW TimeZone", []string{"PGTZ=Asia/Tokyo"}, true, "Asia/Tokyo"},
		"encoding of the client":     {"client_encoding=LATIN1", "SHOW client_encoding", nil, true, "UTF8"},
		"name of the application":    {"application_name=it", "SHOW application_name", nil, true, "it"},
		"setting in the options":     {`options='-c app.x=a\\ b -c endpoint.x=1'`, "SHOW app.x", nil, true, "a b"},
		"options without the words":  {"options='endpoint=" + p.ID() + " -c work_mem=77kB neon_lsn:0/1'", "SHOW work_mem", nil, true, "77kB"},
		"pooler":                     {"host=" + p.PoolerHost(), "SELECT 7", nil, true, "7"},
		"pooler with options":        {"host=" + p.PoolerHost() + " options='-c search_path=x'", "SELECT 7", nil, false, "unsupported startup parameter in options: search_path. Please use unpooled connection"},
		"long first packet":          {"application_name=" + strings.Repeat("x", 10000), "SELECT 7", nil, false, "failed"},
		"GSSAPI is not offered here": {"gssencmode=prefer", "SELECT 7", nil, true, "7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, ok := psql(t, p.Owner, x.change, x.sql, x.env...)
			require.Equal(t, x.ok, ok, out)
			if x.ok {
				require.Equal(t, x.says, out)
			} else {
				require.Contains(t, out, x.says)
			}
		})
	}
}

func TestRefusalsAreFlat(t *testing.T) {
	t.Parallel()
	p := shared(t)
	pgtest.Exec(t, pgtest.Conn(t, p.Owner), "CREATE ROLE shut NOLOGIN PASSWORD 'quite a long one, 17 words'")
	for name, d := range map[string]pg.DSN{
		"database": p.Owner.WithDatabase("nowhere"),
		"password": p.Owner.WithUser(p.Owner.User(), "wrong"),
		"login":    p.Owner.WithUser("shut", "quite a long one, 17 words"),
	} {
		_, err := pg.Connect(context.Background(), d)
		var said *pgconn.PgError
		require.ErrorAs(t, err, &said, name)
		require.Equal(t, &pgconn.PgError{Severity: "ERROR", Code: "XX000", Message: said.Message}, said, name)
		require.NotContains(t, err.Error(), "XX000", "what a user reads has a remedy instead")
	}
}

// direct begins TLS on a connection of its own.
func direct(t *testing.T, p *neonlike.Project, protocols ...string) (*tls.Conn, error) {
	t.Helper()
	pem, err := os.ReadFile(p.RootFile())
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	raw, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(p.Owner.Port()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = raw.Close() })
	require.NoError(t, raw.SetDeadline(time.Now().Add(pgtest.Timeout)))
	conn := tls.Client(raw, &tls.Config{ServerName: p.Host(), RootCAs: roots, NextProtos: protocols})
	return conn, conn.Handshake()
}

func TestDirectTLS(t *testing.T) {
	t.Parallel()
	p := shared(t)
	cfg, err := pgx.ParseConfig(strings.TrimSuffix(info(p.Owner), " ") + " sslnegotiation=direct")
	require.NoError(t, err)
	cfg.LookupFunc = p.Owner.Config().LookupFunc
	delete(cfg.RuntimeParams, "hostaddr")
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	require.NoError(t, err)
	require.NoError(t, conn.Close(context.Background()))

	_, err = direct(t, p, "h2")
	require.ErrorContains(t, err, "no application protocol")
	nameless, err := direct(t, p)
	if err == nil {
		_, err = nameless.Read(make([]byte, 1))
	}
	require.Error(t, err, "without ALPN")
}

func info(d pg.DSN) string {
	s, _ := d.LibpqEnv()
	return s + " password='" + d.Password() + "'"
}

func TestAHigherProtocolIsNegotiatedDown(t *testing.T) {
	t.Parallel()
	p := shared(t)
	conn, err := direct(t, p, "postgresql")
	require.NoError(t, err)
	const params = "user\x00neondb_owner\x00_pq_.shiny\x00on\x00\x00"
	_, err = conn.Write(append([]byte{0, 0, 0, 8 + byte(len(params)), 0, 3, 0, 2}, params...))
	require.NoError(t, err)
	want := "v\x00\x00\x00\x17\x00\x03\x00\x00\x00\x00\x00\x01_pq_.shiny\x00R"
	got := make([]byte, len(want))
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func TestCancel(t *testing.T) {
	t.Parallel()
	p := shared(t)
	conn := pgtest.Conn(t, p.Owner)
	pid := pgtest.Value(t, conn, "SELECT pg_backend_pid()")
	require.NotEqual(t, pid, strconv.FormatUint(uint64(conn.PgConn().PID()), 10), "what the client has is no pid")
	other := pgtest.Conn(t, p.Owner)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(120)")
		ended <- err
	}()
	for waiting := ""; waiting != "PgSleep"; {
		waiting = pgtest.Value(t, other, "SELECT wait_event FROM pg_stat_activity WHERE pid = $1::int", pid)
	}
	require.NoError(t, conn.PgConn().CancelRequest(context.Background()))
	require.Equal(t, pg.CodeQueryCanceled, pg.Code(<-ended))
	pgtest.Exec(t, conn, "SELECT 1")
}

func TestTwoEndpointsOfOneFront(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("with -short there is one endpoint")
	}
	f, err := neonlike.Listen(neonlike.FrontConfig{Domain: "local.neon.tech"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		_, err := os.Stat(f.RootFile())
		require.True(t, errors.Is(err, os.ErrNotExist))
	})
	b, err := pgcluster.Find()
	require.NoError(t, err)
	for _, name := range []string{"one", "two"} {
		c := pgtest.Own(t, pgtest.Target, func(cfg *pgcluster.Config) { *cfg = neonlike.Config(b, false) })
		plain, err := neonlike.Prepare(context.Background(), c, neonlike.Options{Database: name})
		require.NoError(t, err)
		e := f.Add(c)
		// What Neon's console shows asks for less than is done for a host of Neon's.
		shown, err := pg.ParseDSN("postgresql://" + plain.User() + ":" + plain.Password() + "@" + e.Host() + ":" + strconv.Itoa(f.Port()) + "/" + name +
			"?sslmode=require&channel_binding=require&hostaddr=127.0.0.1&sslrootcert=" + f.RootFile())
		require.NoError(t, err)
		require.Equal(t, name, pgtest.Value(t, pgtest.Conn(t, shown), "SELECT current_database()"))
		other, err := pg.ParseDSN("postgresql://" + plain.User() + ":" + plain.Password() + "@" + e.Host() + ":" + strconv.Itoa(f.Port()) + "/" + name +
			"?sslmode=require&hostaddr=127.0.0.1")
		require.NoError(t, err)
		_, err = pg.Connect(context.Background(), other)
		require.ErrorContains(t, err, "TLS handshake")
	}
}
