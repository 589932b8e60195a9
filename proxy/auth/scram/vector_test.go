package scram

import (
	"context"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVector is the example of RFC 7677 section 3; only the user name differs in what PostgreSQL
// ignores.
func TestVector(t *testing.T) {
	t.Parallel()
	const (
		clientNonce = "rOprNGfwEbeRWgbNEkqO"
		serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
		first       = "n,,n=user,r=" + clientNonce
		challenge   = "r=" + clientNonce + serverNonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
		final       = "c=biws,r=" + clientNonce + serverNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
		outcome     = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	)
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	require.NoError(t, err)
	d := NewDeriver(1)
	keys, err := d.Derive(context.Background(), "owner", "pencil", salt, 4096)
	require.NoError(t, err)

	s := NewServer(ServerConfig{Verifier: keys.Verifier(salt, 4096)})
	s.newNonce = func() string { return serverNonce }
	got, err := s.First([]byte(first))
	require.NoError(t, err)
	require.Equal(t, challenge, string(got))
	got, err = s.Final([]byte(final))
	require.NoError(t, err)
	require.Equal(t, outcome, string(got))
	require.True(t, keys == s.Proven().keys, "the client key is recovered from the proof")

	c := NewClient(ClientConfig{Derive: Password(d, "owner", "pencil")})
	c.nonce, c.bare = clientNonce, "n=user,r="+clientNonce
	got, err = c.Continue(context.Background(), []byte(challenge))
	require.NoError(t, err)
	require.Equal(t, final, string(got))
	require.NoError(t, c.Verify([]byte(outcome)))
	require.Error(t, c.Verify([]byte("v=AAAA")))
}
