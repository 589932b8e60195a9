package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/proxy/auth"
	"crossfade/proxy/tlsconf"
)

// selfSigned is a server's certificate for 127.0.0.1, and its key.
func selfSigned(tb testing.TB) (der []byte, key *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxy"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(tb, err)
	return der, key
}

// certificate loads a server's certificate for 127.0.0.1.
func certificate(t *testing.T) *tlsconf.Server {
	t.Helper()
	der, key := selfSigned(t)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	s, err := tlsconf.LoadServer(cert, keyFile)
	require.NoError(t, err)
	return s
}

// TestEverythingOverTLS puts a second proxy with a certificate between the first and
// its two servers, so that clients and servers both speak TLS, cancel requests too.
func TestEverythingOverTLS(t *testing.T) {
	t.Parallel()
	server := certificate(t)
	inner := map[string]*rig{}
	for _, side := range []string{Source, Target} {
		dsn := pgtestDatabase(t, side)
		inner[side] = &rig{source: dsn, target: dsn}
		inner[side].start(t, func(c *Config) { c.TLS = server })
	}
	g := &rig{source: inner[Source].source, target: inner[Target].source}
	g.start(t, func(c *Config) {
		c.TLS = server
		for _, e := range []*Endpoint{&c.Source, &c.Target} {
			side := Source
			if e == &c.Target {
				side = Target
			}
			e.Dial.Address = inner[side].Addr().String()
			e.Dial.TLS = tlsconf.Client{Mode: tlsconf.Require, Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a certificate of the test's own
		}
		c.Auth = auth.NewUsers(auth.User{Name: g.source.User(), Secret: auth.Plain(g.source.Password())})
	})
	conn := g.dial(t, func(c *pgx.ConnConfig) {
		c.TLSConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a certificate of the test's own
		c.ChannelBinding = "require"
		c.Fallbacks = nil
	})
	require.IsType(t, &tls.Conn{}, conn.PgConn().Conn())
	plain := g.dial(t)
	run(t, conn, "SET app.x = 'kept'")
	for _, side := range []string{Source, Target, Source} {
		if side != g.Status().Active {
			g.moveTo(t, side)
		}
		require.Equal(t, side, g.side(t, conn))
		require.Equal(t, side, g.side(t, plain))
		require.Equal(t, "kept", value(t, conn, "current_setting('app.x')"))

		// Held over TLS, and let go.
		g.epoch++
		_, err := g.Pause(within(t), g.epoch, 5*time.Second)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "SELECT 1")
			done <- err
		}()
		eventually(t, "it is held", func() bool { return g.waiting() == 1 })
		require.NoError(t, g.Resume(within(t), g.epoch))
		require.NoError(t, <-done)

		// Cancelled over TLS.
		go func() {
			_, err := conn.Exec(context.Background(), "SELECT pg_sleep(60)")
			done <- err
		}()
		require.Equal(t, pg.CodeQueryCanceled, pg.Code(cancelUntil(t, conn.PgConn(), done)))
	}
}

// cancelUntil sends cancel requests until the statement has ended. One that comes
// before the server has begun is lost, as without a proxy.
func cancelUntil(t *testing.T, conn *pgconn.PgConn, done <-chan error) error {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		require.NoError(t, conn.CancelRequest(within(t)))
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
	}
}
