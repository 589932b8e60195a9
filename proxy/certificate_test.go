package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/poll"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/tlsconf/tlstest"
	"crossfade/proxy/wire"
)

// say runs one statement through the proxy as libpq does it, and returns what it said.
func (g *rig) say(t *testing.T, conninfo string) (string, error) {
	t.Helper()
	bin, err := pgcluster.Find()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.Path("psql"), "-XAtqw", "-c", "SELECT 'in'", "-d", "host=127.0.0.1 dbname="+g.source.Database()+
		" port="+strconv.Itoa(g.Addr().(*net.TCPAddr).Port)+" "+conninfo)
	cmd.Env = []string{"HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// attempt logs in through the proxy and out again.
func (g *rig) attempt(ctx context.Context, change ...func(*pgx.ConnConfig)) (string, error) {
	cfg := g.client.Config()
	for _, f := range change {
		f(cfg)
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.PgConn().ParameterStatus("session_authorization"), nil
}

// TestClientCertificates has psql log in with certificates, good ones and others.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, untrusted := tlstest.NewAuthority(t, false), tlstest.NewAuthority(t, false)
	certFile, keyFile := ca.Issue(t, "127.0.0.1").Write(t, t.TempDir())
	server, err := tlsconf.LoadServerCA(certFile, keyFile, ca.RootFile)
	require.NoError(t, err)
	either := newRig(t, func(c *Config) { c.TLS = server })
	only := &rig{source: either.source, target: either.target}
	only.start(t, func(c *Config) { c.TLS, c.RequireCertificate = server, true })
	user := either.source.User()
	with := func(a *tlstest.Authority, names ...string) string {
		crt, key := a.IssueClient(t, names...)
		return " sslmode=verify-full sslrootcert=" + ca.RootFile + " sslcert=" + crt + " sslkey=" + key
	}
	password := " password=" + either.source.Password()
	plain := " sslmode=verify-full sslrootcert=" + ca.RootFile
	for name, c := range map[string]struct {
		g        *rig
		conninfo string
		says     string
	}{
		"certificate":                       {either, with(ca, user), "in\n"},
		"certificate, required":             {only, with(ca, user), "in\n"},
		"password":                          {either, plain + password, "in\n"},
		"password without TLS":              {either, "sslmode=disable" + password, "in\n"},
		"another's certificate, password":   {either, with(ca, "somebody") + password, "in\n"},
		"another's certificate":             {either, with(ca, "somebody") + " password=wrong", "password authentication failed"},
		"two names":                         {either, with(ca, "somebody", user) + " password=wrong", "password authentication failed"},
		"untrusted":                         {either, with(untrusted, user) + password, "SSL"},
		"another's certificate, required":   {only, with(ca, "somebody") + password, "FATAL:  certificate authentication failed for user"},
		"password, required":                {only, plain + password, "FATAL:  connection requires a valid client certificate"},
		"password without TLS, required":    {only, "sslmode=disable" + password, "FATAL:  connection requires a valid client certificate"},
		"of a server, as a client's":        {either, plain + " sslcert=" + certFile + " sslkey=" + keyFile + password, "SSL"},
		"certificate and password, binding": {either, with(ca, "somebody") + " channel_binding=require" + password, "in\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := c.g.say(t, "user="+user+" "+c.conninfo)
			require.Contains(t, out, c.says)
			require.Equal(t, c.says == "in\n", err == nil, out)
		})
	}
}

// TestDirectTLS begins TLS without asking: with the ALPN protocol only.
func TestDirectTLS(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.TLS = certificate(t) })
	server := backend.Config{Address: g.Addr().String(), User: g.source.User(), Password: g.source.Password(), Database: g.source.Database(),
		TLS: tlsconf.Client{Mode: tlsconf.Require, Direct: true, Binding: tlsconf.BindingRequire, Config: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a certificate of the test's own
	conn, err := backend.Dial(within(t), server)
	require.NoError(t, err)
	require.Equal(t, tlsconf.Protocol, conn.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol)
	require.NoError(t, conn.Cancel(within(t)), "direct as well")
	require.NoError(t, conn.Close())

	startup, err := wire.AppendStartup(nil, wire.Version30, []wire.Param{{Name: "user", Value: g.source.User()}})
	require.NoError(t, err)
	for _, protocols := range [][]string{nil, {"http/1.1"}} {
		raw, err := net.Dial("tcp", g.Addr().String())
		require.NoError(t, err)
		require.NoError(t, raw.SetDeadline(time.Now().Add(time.Minute)))
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}) //nolint:gosec // as above
		_, err = c.Write(startup)
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		require.Error(t, err, "ALPN %v", protocols)
		require.False(t, poll.TimedOut(err))
		require.NoError(t, raw.Close())
	}

	plain := newRig(t)
	raw, err := net.Dial("tcp", plain.Addr().String())
	require.NoError(t, err)
	defer raw.Close()
	require.NoError(t, raw.SetDeadline(time.Now().Add(time.Minute)))
	_, err = raw.Write([]byte{0x16, 3, 1, 2, 0})
	require.NoError(t, err)
	_, err = raw.Read(make([]byte, 1))
	require.Error(t, err, "closed without a word")
	require.False(t, poll.TimedOut(err))
}

// TestNothingIsReadAfterAFailedHandshake: what TLS has refused gets no message in plain text on
// top.
func TestNothingIsReadAfterAFailedHandshake(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.TLS = certificate(t) })
	raw, err := net.Dial("tcp", g.Addr().String())
	require.NoError(t, err)
	defer raw.Close()
	require.NoError(t, raw.SetDeadline(time.Now().Add(time.Minute)))
	_, err = raw.Write(append(wire.AppendSSLRequest(nil), "this is no handshake at all"...))
	require.NoError(t, err)
	said := make([]byte, 4096)
	n, _ := raw.Read(said)
	for {
		more, err := raw.Read(said[n:])
		n += more
		if err != nil {
			require.False(t, poll.TimedOut(err))
			break
		}
	}
	require.Equal(t, "S", string(said[:1]))
	require.NotContains(t, string(said[1:n]), "FATAL")
	require.NotContains(t, string(said[1:n]), "E\x00\x00")
}

// TestProofIsAllThatIsKnown serves a user of whom only the verifier is known: at the source by what
// his own proof shows, at the target not at all.
func TestProofIsAllThatIsKnown(t *testing.T) {
	t.Parallel()
	var secret atomic.Pointer[auth.Secret]
	g := newRig(t, func(c *Config) {
		c.Source.Credentials = func(string) (string, string, bool) { return "", "", false }
		c.Source.Proofs = true
		c.Target.Credentials = c.Source.Credentials
		c.Auth = storeFunc(func() auth.Secret { return *secret.Load() })
	})
	admin := pgxAdmin(t, g)
	verifier := func() *auth.Secret {
		s, err := auth.ParseSecret(value(t, admin, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", g.source.User()))
		require.NoError(t, err)
		return &s
	}
	secret.Store(verifier())
	conn := g.dial(t)
	require.Equal(t, g.source.User(), value(t, conn, "session_user"))

	shown := g.Sessions(within(t), true)
	require.Len(t, shown, 1)
	require.Equal(t, "red", shown[0].Verdict, "it could not move, whatever it carries")
	require.Equal(t, "credentials", shown[0].Reasons[0].Code)
	g.epoch++
	_, err := g.Stage(within(t), g.epoch)
	var unmovable *UnmovableError
	require.ErrorAs(t, err, &unmovable)
	require.ErrorContains(t, err, "add the role to the users file")
	require.Equal(t, "credentials", unmovable.Sessions[0].Code)
	require.NoError(t, conn.Close(within(t)))

	plain := auth.Plain(g.source.Password())
	secret.Store(&plain) // proves the client, and nothing to a server
	out, err := g.say(t, "user="+g.source.User()+" password="+g.source.Password())
	require.Error(t, err)
	require.Contains(t, out, "add the role to the users file")

	// The password was changed since the verifier was read: the old one is refused as the source
	// refuses it.
	secret.Store(verifier())
	run(t, admin, "ALTER ROLE "+g.source.User()+" PASSWORD '"+g.source.Password()+"'")
	_, err = g.say(t, "user="+g.source.User()+" password="+g.source.Password())
	require.Error(t, err)
	secret.Store(verifier())
	again := g.dial(t)
	require.Equal(t, "1", value(t, again, "1"))
	require.NoError(t, again.Close(within(t)))
	eventually(t, "none is left", func() bool { return g.Status().Sessions == 0 })
	g.toTarget(t)
	out, err = g.say(t, "user="+g.source.User()+" password="+g.source.Password())
	require.Error(t, err)
	require.Contains(t, out, "has no credentials at the target")
}

type storeFunc func() auth.Secret

func (f storeFunc) Secret(context.Context, string) (auth.Secret, bool, error) { return f(), true, nil }

// TestConfiguredPasswordIsWrong: the client has proved itself, so it is not told that its password
// is wrong.
func TestConfiguredPasswordIsWrong(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) {
		own := c.Source.Credentials
		c.Source.Credentials = func(user string) (string, string, bool) {
			name, _, ok := own(user)
			return name, "not it", ok
		}
	})
	out, err := g.say(t, "user="+g.source.User()+" password="+g.source.Password())
	require.Error(t, err)
	require.Contains(t, out, "the source refuses the password that is configured for role")
	require.NotContains(t, out, "not it")
}
