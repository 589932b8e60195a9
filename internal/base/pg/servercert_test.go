package pg_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// authority signs certificates of servers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	require.NoError(t, err)
	a := &authority{key: key, file: filepath.Join(t.TempDir(), "root.crt")}
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	return a
}

// issue makes a certificate of a server and its key, in PEM form.
func (a *authority) issue(t *testing.T, common string, names []string, addrs ...string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: common}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: names}
	for _, s := range addrs {
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(s))
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, k.Public(), a.key)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// A certificate is believed for the hosts for which libpq believes it: psql is asked the same.
func TestCertificatesAreBelievedAsLibpqBelievesThem(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts a cluster of its own")
	}
	good, other := newAuthority(t, "good authority"), newAuthority(t, "other authority")
	cert, key := good.issue(t, "db.example", nil)
	c := pgtest.Own(t, pgtest.Source, func(cfg *pgcluster.Config) {
		cfg.Settings = map[string]string{"ssl": "on", "ssl_cert_file": "'../server.crt'", "ssl_key_file": "'../server.key'"}
		cfg.Adapt = func(dir string, b pgcluster.Binaries) (string, error) {
			for name, content := range map[string][]byte{"server.crt": cert, "server.key": key} {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					return "", err
				}
			}
			return b.Path("postgres"), nil
		}
	})
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	ask := func(host, mode, root string) (ours, libpq error) {
		d := c.AdminDSN("postgres")
		s := fmt.Sprintf("host=%s hostaddr=127.0.0.1 port=%d user=%s dbname=postgres password='%s' sslmode=%s sslrootcert=%s", host, c.Port(), d.User(), d.Password(), mode, root)
		parsed, err := pg.ParseDSNIn(s, nil, "")
		require.NoError(t, err)
		conn, ours := pg.Connect(t.Context(), parsed)
		if ours == nil {
			_ = conn.Close(t.Context())
		}
		out, libpq := exec.Command(c.Binaries().Path("psql"), "-X", "-w", s, "-c", "SELECT 1").CombinedOutput()
		if libpq != nil {
			require.Contains(t, string(out), "certificate", host)
		}
		return ours, libpq
	}
	for _, x := range []struct {
		common       string
		names, addrs []string
	}{
		{"db.example", nil, nil}, {"*.example", nil, nil}, {"other.example", []string{"db.example", "also.example"}, nil}, {"db.example", []string{"other.example"}, nil},
		{"db.example", nil, []string{"192.0.2.1"}}, {"127.0.0.1", nil, nil}, {"127.0.0.1", []string{"x.example"}, nil}, {"db.example", nil, []string{"127.0.0.1"}}, {"", []string{"*.example"}, nil},
	} {
		cert, key := good.issue(t, x.common, x.names, x.addrs...)
		for name, content := range map[string][]byte{"server.crt": cert, "server.key": key} {
			_, err := c.WriteFile(name, content, 0o600)
			require.NoError(t, err)
		}
		pgtest.Exec(t, admin, "SELECT pg_reload_conf()")
		block, _ := pem.Decode(cert)
		require.Eventually(t, func() bool { return serverShows(t, c, block.Bytes) }, pgtest.Timeout, 10*time.Millisecond)
		for _, host := range []string{"db.example", "DB.Example", "a.db.example", "other.example", "127.0.0.1"} {
			ours, libpq := ask(host, "verify-full", good.file)
			require.Equal(t, libpq == nil, ours == nil, "certificate %+v, host %s: libpq %v, we %v", x, host, libpq, ours)
			if ours != nil {
				for _, words := range []string{"does not match host name " + host, "good authority", good.file, "sslmode=verify-ca"} {
					require.ErrorContains(t, ours, words)
				}
			}
		}
	}
	for _, mode := range []string{"verify-full", "verify-ca", "require"} {
		ours, libpq := ask("db.example", mode, other.file)
		require.Error(t, libpq)
		for _, words := range []string{"good authority", other.file, "sslrootcert"} {
			require.ErrorContains(t, ours, words, mode)
		}
		require.NotContains(t, ours.Error(), "\n")
	}
	ours, libpq := ask("elsewhere", "verify-ca", good.file)
	require.NoError(t, libpq)
	require.NoError(t, ours)
}

// serverShows reports whether the server's certificate is the one that was written last.
func serverShows(t *testing.T, c *pgcluster.Cluster, want []byte) bool {
	t.Helper()
	var shown []byte
	d, err := pg.ParseDSNIn(fmt.Sprintf("host=127.0.0.1 port=%d user=nobody dbname=x sslmode=require", c.Port()), nil, "")
	require.NoError(t, err)
	cfg := d.Config()
	cfg.TLSConfig.VerifyConnection = func(s tls.ConnectionState) error { shown = s.PeerCertificates[0].Raw; return nil }
	conn, err := pgxConnect(t, cfg)
	if err == nil {
		_ = conn.Close(t.Context())
	}
	return string(shown) == string(want)
}

func TestAWildcardStandsForOneLabel(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		pattern, host string
		want          bool
	}{
		{"a.example", "A.EXAMPLE", true}, {"*.example", "a.example", true}, {"*.example", "a.b.example", false}, {"*.example", ".example", false}, {"*.example", "example", false},
		{"*.", "a.", false}, {"*", "a", false}, {"a*.example", "ab.example", false}, {"a.example\x00.evil", "a.example", false}, {"*.exAmple", "b.Example", true},
	} {
		require.Equal(t, x.want, pg.NameMatches(x.pattern, x.host), "%q %q", x.pattern, x.host)
	}
}

func pgxConnect(t *testing.T, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	t.Helper()
	return pgx.ConnectConfig(t.Context(), cfg)
}
