package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	t.Cleanup(cancel)
	return ctx
}

// becomes polls a condition that nothing announces.
func becomes(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, pgtest.Timeout, 2*time.Millisecond, what)
}

// pair is one that signs itself, with its key.
func pair(tb testing.TB) ([]byte, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	require.NoError(tb, err)
	return der, key
}
