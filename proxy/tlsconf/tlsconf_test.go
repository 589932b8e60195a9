package tlsconf_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/proxy/tlsconf"
	"crossfade/proxy/tlsconf/tlstest"
)

// shake lets a client and a server shake hands.
func shake(t *testing.T, c tlsconf.Client, s *tlsconf.Server, host string, direct bool) (state tls.ConnectionState, binding []byte, clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer a.Close()
	b, err := l.Accept()
	require.NoError(t, err)
	defer b.Close()
	deadline := time.Now().Add(20 * time.Second)
	_ = a.SetDeadline(deadline)
	_ = b.SetDeadline(deadline)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		var conn *tls.Conn
		if conn, binding, serverErr = s.Handshake(context.Background(), b, direct); serverErr == nil {
			_, _ = conn.Write([]byte{1}) // lets the client's side of TLS 1.3 see refusals
		}
	}()
	conn, clientErr := c.Handshake(context.Background(), a, host)
	if clientErr == nil {
		_, clientErr = conn.Read(make([]byte, 1))
		state = conn.ConnectionState()
	}
	_ = a.Close()
	<-done
	return state, binding, clientErr, serverErr
}

// client is what a DSN with these settings makes.
func client(t *testing.T, sslmode, host, root string) tlsconf.Client {
	t.Helper()
	dsn := "host=" + host + " sslmode=" + sslmode
	if root != "" {
		dsn += " sslrootcert=" + root
	}
	cfg, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return tlsconf.FromPgx(cfg)
}

func TestModes(t *testing.T) {
	t.Parallel()
	ca, other := tlstest.NewAuthority(t, false), tlstest.NewAuthority(t, false)
	server, err := tlsconf.LoadServer(ca.Issue(t, "db.example").Write(t, t.TempDir()))
	require.NoError(t, err)
	for _, c := range []struct {
		mode, host, root string
		err              string
	}{
		{"require", "elsewhere", "", ""},
		{"prefer", "elsewhere", "", ""},
		{"require", "db.example", other.RootFile, "unknown authority"},
		{"verify-ca", "elsewhere", ca.RootFile, ""},
		{"verify-ca", "db.example", other.RootFile, "unknown authority"},
		{"verify-full", "db.example", ca.RootFile, ""},
		{"verify-full", "elsewhere", ca.RootFile, "not elsewhere"},
		{"verify-full", "db.example", "", "unknown authority"},
	} {
		t.Run(fmt.Sprint(c.mode, c.host, c.err), func(t *testing.T) {
			t.Parallel()
			state, binding, cErr, _ := shake(t, client(t, c.mode, c.host, c.root), server, c.host, false)
			if c.err != "" {
				require.ErrorContains(t, cErr, c.err)
				return
			}
			require.NoError(t, cErr)
			want, err := tlsconf.Binding(state.PeerCertificates[0])
			require.NoError(t, err)
			require.Equal(t, want, binding, "both ends bind the same channel")
		})
	}
	_, err = client(t, "disable", "h", "").Handshake(context.Background(), nil, "")
	require.ErrorContains(t, err, "disable")
}

func TestDirect(t *testing.T) {
	t.Parallel()
	server, err := tlsconf.LoadServer(tlstest.NewAuthority(t, false).Issue(t, "h").Write(t, t.TempDir()))
	require.NoError(t, err)
	client := client(t, "require", "h", "")
	_, _, _, sErr := shake(t, client, server, "h", true)
	require.ErrorContains(t, sErr, "ALPN")
	client.Direct = true
	state, _, cErr, sErr := shake(t, client, server, "h", true)
	require.NoError(t, cErr)
	require.NoError(t, sErr)
	require.Equal(t, tlsconf.Protocol, state.NegotiatedProtocol)
}

func TestReload(t *testing.T) {
	t.Parallel()
	ca, dir := tlstest.NewAuthority(t, false), t.TempDir()
	first, second := ca.Issue(t, "one"), ca.Issue(t, "two")
	cert, key := first.Write(t, dir)
	server, err := tlsconf.LoadServer(cert, key)
	require.NoError(t, err)
	client := client(t, "require", "x", "")
	shown := func() *x509.Certificate {
		t.Helper()
		state, _, cErr, sErr := shake(t, client, server, "x", false)
		require.NoError(t, cErr)
		require.NoError(t, sErr)
		return state.PeerCertificates[0]
	}
	age := func(by time.Duration) {
		for _, f := range []string{cert, key} {
			require.NoError(t, os.Chtimes(f, time.Time{}, time.Now().Add(by)))
		}
	}
	require.True(t, shown().Equal(first.Cert))

	require.NoError(t, os.WriteFile(cert, []byte("half a cert"), 0o600))
	age(time.Minute)
	require.True(t, shown().Equal(first.Cert), "an unusable file changes nothing")
	require.Error(t, server.Err())

	second.Write(t, dir)
	age(2 * time.Minute)
	require.True(t, shown().Equal(second.Cert))
	require.NoError(t, server.Err())

	require.NoError(t, os.Rename(cert, cert+".away"))
	require.True(t, shown().Equal(second.Cert))
	require.Error(t, server.Err())
	require.NoError(t, os.Rename(cert+".away", cert))
	require.NoError(t, server.Err())

	require.NoError(t, os.Chmod(key, 0o604))
	_, err = tlsconf.LoadServer(cert, key)
	require.ErrorContains(t, err, "chmod 600")
}

func TestBinding(t *testing.T) {
	t.Parallel()
	pair := tlstest.NewAuthority(t, false).Issue(t, "h")
	got, err := tlsconf.Binding(pair.Cert)
	require.NoError(t, err)
	want := sha256.Sum256(pair.Cert.Raw)
	require.Equal(t, want[:], got)

	pair = tlstest.NewAuthority(t, true).Issue(t, "h")
	_, err = tlsconf.Binding(pair.Cert)
	require.ErrorContains(t, err, "no channel binding")
	server, err := tlsconf.LoadServer(pair.Write(t, t.TempDir()))
	require.NoError(t, err)
	client := client(t, "require", "h", "")
	_, binding, cErr, sErr := shake(t, client, server, "h", false)
	require.NoError(t, cErr)
	require.NoError(t, sErr)
	require.Nil(t, binding)
}

func TestFromPgx(t *testing.T) {
	t.Parallel()
	root := tlstest.NewAuthority(t, false).RootFile
	for dsn, want := range map[string]tlsconf.Client{
		"sslmode=disable": {Mode: tlsconf.Disable},
		"sslmode=allow":   {Mode: tlsconf.Allow},
		"sslmode=prefer":  {Mode: tlsconf.Prefer},
		"sslmode=require": {Mode: tlsconf.Require},
		"sslmode=require channel_binding=require":      {Mode: tlsconf.Require, Binding: tlsconf.BindingRequire},
		"sslmode=require channel_binding=disable":      {Mode: tlsconf.Require, Binding: tlsconf.BindingDisable},
		"sslmode=require sslnegotiation=direct":        {Mode: tlsconf.Require, Direct: true},
		"sslmode=verify-ca sslrootcert=" + root:        {Mode: tlsconf.VerifyCA},
		"sslmode=verify-full sslrootcert=" + root:      {Mode: tlsconf.VerifyFull},
		"sslmode=require sslrootcert=" + root:          {Mode: tlsconf.VerifyCA},
		"sslmode=require host=a.example,b.example":     {Mode: tlsconf.Require},
		"sslmode=prefer host=a.example,b.example":      {Mode: tlsconf.Prefer},
		"sslmode=verify-full host=neon.example user=u": {Mode: tlsconf.VerifyFull},
	} {
		cfg, err := pgx.ParseConfig("host=h.example " + dsn)
		require.NoError(t, err, dsn)
		got := tlsconf.FromPgx(cfg)
		require.Equal(t, want.Mode, got.Mode, "%s: %s", dsn, got.Mode)
		require.Equal(t, want.Binding, got.Binding, dsn)
		require.Equal(t, want.Direct, got.Direct, dsn)
		require.Equal(t, want.Mode == tlsconf.Disable, got.Config == nil, dsn)
		if want.Mode == tlsconf.VerifyFull {
			require.Equal(t, cfg.Host, got.Config.ServerName, "SNI")
		}
	}
}

// sslsni=0 leaves the template without a name, and nothing is put in its place.
func TestNoNameIsSentWhereNoneIsWanted(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]*tls.Config{"": {InsecureSkipVerify: true}, "h.example": {InsecureSkipVerify: true, ServerName: "h.example"}, "host.example": {}} {
		a, b := net.Pipe()
		sent := make(chan string, 1)
		go func() {
			server := tls.Server(b, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				sent <- h.ServerName
				return nil, errors.New("seen")
			}})
			_ = server.Handshake()
			_ = b.Close()
		}()
		_, err := tlsconf.Client{Mode: tlsconf.Require, Config: cfg}.Handshake(t.Context(), a, "host.example")
		require.Error(t, err)
		require.Equal(t, name, <-sent)
		_ = a.Close()
	}
}
