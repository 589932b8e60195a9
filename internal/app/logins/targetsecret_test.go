package logins

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
)

// Where a certificate stands for the password, its private key is the secret: nothing that
// everybody knows is one.
func TestTheKeyOfKeptPasswordsIsASecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	issue := func(name string) string {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		base := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(base+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
		require.NoError(t, os.WriteFile(base+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
		return "host=h user=u dbname=d sslmode=require sslcert=" + base + ".crt sslkey=" + base + ".key"
	}
	secret := func(conninfo string) string {
		t.Helper()
		d, err := pg.ParseDSN(conninfo)
		require.NoError(t, err)
		return targetSecret(d)
	}
	one, other := issue("one"), issue("other")
	require.NotEmpty(t, secret(one))
	require.Equal(t, secret(one), secret(one), "it is the same after a restart")
	require.NotEqual(t, secret(one), secret(other))
	require.Equal(t, "geheim", secret(one+" password=geheim"))
	require.Empty(t, secret("host=h user=u dbname=d"))
}
