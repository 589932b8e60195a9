package scram_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	oracle "github.com/xdg-go/scram"

	"crossfade/proxy/auth/scram"
)

var passwords = []string{"pencil", "a,b=c \"x\"", "pässwörd", "I\u00adX", "\u2168", "a\u00a0b", "\u0627\u0031", "\xff\xfe", "tab\there", "😀"}

func derive(t *testing.T, d *scram.Deriver, password string, salt []byte, n int) scram.Keys {
	t.Helper()
	k, err := d.Derive(context.Background(), "owner", password, salt, n)
	require.NoError(t, err)
	return k
}

// run lets our two ends talk; the error is that of the end that refused.
func run(c *scram.Client, s *scram.Server) (clientErr, serverErr error) {
	challenge, err := s.First(c.First())
	if err != nil {
		return nil, err
	}
	answer, err := c.Continue(context.Background(), challenge)
	if err != nil {
		return err, nil
	}
	final, err := s.Final(answer)
	if err != nil {
		return nil, err
	}
	return c.Verify(final), nil
}

func TestBothEnds(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(2)
	binding := []byte("hash of a certificate")
	for _, pw := range passwords {
		salt := scram.NewSalt()
		v := derive(t, d, pw, salt, 64).Verifier(salt, 64)
		for _, plus := range []bool{false, true} {
			c := scram.NewClient(scram.ClientConfig{Derive: scram.Password(d, "owner", pw), Plus: plus, Binding: binding})
			s := scram.NewServer(scram.ServerConfig{Verifier: v, Plus: plus, Binding: binding})
			cErr, sErr := run(c, s)
			require.NoError(t, cErr, pw)
			require.NoError(t, sErr, pw)
			require.NotNil(t, s.Proven())
		}
		c := scram.NewClient(scram.ClientConfig{Derive: scram.Password(d, "owner", pw+"x")})
		s := scram.NewServer(scram.ServerConfig{Verifier: v})
		_, sErr := run(c, s)
		require.ErrorIs(t, sErr, scram.ErrRefused)
		require.Nil(t, s.Proven())
	}
}

// TestKeysLogIn: with the keys that a server recovered one logs in where the verifier is the same.
func TestKeysLogIn(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(1)
	salt := scram.NewSalt()
	v := derive(t, d, "pw", salt, 64).Verifier(salt, 64)
	s := scram.NewServer(scram.ServerConfig{Verifier: v})
	cErr, sErr := run(scram.NewClient(scram.ClientConfig{Derive: scram.Password(d, "owner", "pw")}), s)
	require.NoError(t, cErr)
	require.NoError(t, sErr)
	again := scram.NewClient(scram.ClientConfig{Derive: s.Proven().Derive})
	cErr, sErr = run(again, scram.NewServer(scram.ServerConfig{Verifier: v}))
	require.NoError(t, cErr)
	require.NoError(t, sErr)
	require.Equal(t, "[SCRAM keys]", fmt.Sprintf("%+v", s.Proven()))
	for name, other := range map[string]scram.Verifier{
		"salt":  derive(t, d, "pw", scram.NewSalt(), 64).Verifier(scram.NewSalt(), 64),
		"count": derive(t, d, "pw", salt, 65).Verifier(salt, 65),
	} {
		cErr, _ = run(scram.NewClient(scram.ClientConfig{Derive: s.Proven().Derive}), scram.NewServer(scram.ServerConfig{Verifier: other}))
		require.ErrorIs(t, cErr, scram.ErrOtherVerifier, name)
	}
}

func TestChannelBinding(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(1)
	salt := scram.NewSalt()
	v := derive(t, d, "pw", salt, 64).Verifier(salt, 64)
	pw := scram.Password(d, "owner", "pw")
	for name, c := range map[string]struct {
		client scram.ClientConfig
		server scram.ServerConfig
		err    string
	}{
		"other certificate":     {scram.ClientConfig{Derive: pw, Plus: true, Binding: []byte("a")}, scram.ServerConfig{Verifier: v, Plus: true, Binding: []byte("b")}, "channel binding check failed"},
		"offer removed":         {scram.ClientConfig{Derive: pw, CouldBind: true}, scram.ServerConfig{Verifier: v, Binding: []byte("b")}, "thinks the server does not"},
		"no offer, could":       {scram.ClientConfig{Derive: pw, CouldBind: true}, scram.ServerConfig{Verifier: v}, ""},
		"offer not taken":       {scram.ClientConfig{Derive: pw}, scram.ServerConfig{Verifier: v, Binding: []byte("b")}, ""},
		"plus without data":     {scram.ClientConfig{Derive: pw}, scram.ServerConfig{Verifier: v, Plus: true, Binding: []byte("b")}, "without channel binding data"},
		"data without the plus": {scram.ClientConfig{Derive: pw, Plus: true, Binding: []byte("b")}, scram.ServerConfig{Verifier: v, Binding: []byte("b")}, "without SCRAM-SHA-256-PLUS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cErr, sErr := run(scram.NewClient(c.client), scram.NewServer(c.server))
			require.NoError(t, cErr)
			if c.err == "" {
				require.NoError(t, sErr)
			} else {
				require.ErrorContains(t, sErr, c.err)
			}
		})
	}
}

// TestOracleClient: an independent client logs in to our server, and not with another password.
func TestOracleClient(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(1)
	for _, pw := range []string{"pencil", "pässwörd", "\u2168", "a\u00a0b"} {
		salt := scram.NewSalt()
		s := scram.NewServer(scram.ServerConfig{Verifier: derive(t, d, pw, salt, 4096).Verifier(salt, 4096)})
		client, err := oracle.SHA256.NewClient("somebody", pw, "")
		require.NoError(t, err)
		conv := client.NewConversation()
		first, err := conv.Step("")
		require.NoError(t, err)
		challenge, err := s.First([]byte(first))
		require.NoError(t, err)
		answer, err := conv.Step(string(challenge))
		require.NoError(t, err)
		final, err := s.Final([]byte(answer))
		require.NoError(t, err)
		_, err = conv.Step(string(final))
		require.NoError(t, err)
		require.True(t, conv.Valid())
	}
}

// TestOracleServer: our client logs in to an independent server.
func TestOracleServer(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(1)
	salt := scram.NewSalt()
	k := derive(t, d, "pencil", salt, 4096)
	server, err := oracle.SHA256.NewServer(func(string) (oracle.StoredCredentials, error) {
		return oracle.StoredCredentials{KeyFactors: oracle.KeyFactors{Salt: string(salt), Iters: 4096}, StoredKey: k.StoredKey[:], ServerKey: k.ServerKey[:]}, nil
	})
	require.NoError(t, err)
	conv := server.NewConversation()
	c := scram.NewClient(scram.ClientConfig{Derive: scram.Password(d, "owner", "pencil")})
	challenge, err := conv.Step(string(c.First()))
	require.NoError(t, err)
	answer, err := c.Continue(context.Background(), []byte(challenge))
	require.NoError(t, err)
	final, err := conv.Step(string(answer))
	require.NoError(t, err)
	require.NoError(t, c.Verify([]byte(final)))
	require.True(t, conv.Valid())
}

func TestMockRefusesEverything(t *testing.T) {
	t.Parallel()
	key := []byte("process")
	a, b := scram.Mock(key, "nobody"), scram.Mock(key, "nobody")
	require.Equal(t, a.Salt, b.Salt, "the salt of a user does not change")
	require.NotEqual(t, a.Salt, scram.Mock(key, "other").Salt)
	require.NotEqual(t, a.Salt, scram.Mock([]byte("other process"), "nobody").Salt)
	d := scram.NewDeriver(1)
	// Even with a verifier that fits.
	v := derive(t, d, "pw", a.Salt, 64).Verifier(a.Salt, 64)
	_, sErr := run(scram.NewClient(scram.ClientConfig{Derive: scram.Password(d, "owner", "pw")}), scram.NewServer(scram.ServerConfig{Verifier: v, Mock: true}))
	require.ErrorIs(t, sErr, scram.ErrRefused)
}

func TestHostileMessages(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(1)
	for _, first := range []string{"", ",", "n", "n,", "n,,", "n,,n=", "n,,n=,", "n,,n=,r=", "n,,n=,r=a\x01", "n,a=x,n=,r=abc", "n,,m=x,n=,r=abc", "z,,n=,r=a", "p=tls-unique,,n=,r=a", "n,,r=a"} {
		_, err := scram.NewServer(scram.ServerConfig{Verifier: scram.Mock(nil, "u")}).First([]byte(first))
		require.Error(t, err, "%q", first)
	}
	for _, final := range []string{"", "c=biws", "c=biws,r=x,p=", "c=biws,r=x,p=!!", ",p=AAAA", "r=x,c=biws,p=" + strings.Repeat("A", 43) + "="} {
		s := scram.NewServer(scram.ServerConfig{Verifier: scram.Mock(nil, "u")})
		_, err := s.Final([]byte(final))
		require.Error(t, err, "final ahead of first")
		_, err = s.First([]byte("n,,n=,r=abc"))
		require.NoError(t, err)
		_, err = s.Final([]byte(final))
		require.Error(t, err, "%q", final)
	}
	for _, challenge := range []string{
		"", "r=", "r=%s", "r=%sx", "r=%sx,s=", "r=%sx,s=AAAA", "r=%sx,s=AAAA,i=", "r=%sx,s=AAAA,i=0", "r=%sx,s=AAAA,i=-1", "r=%sx,s=,i=1",
		"r=%sx,s=AAAA,i=99999999999999999999", "r=%sx,s=AAAA,i=1000001", "r=other,s=AAAA,i=1", "r=%s,s=AAAA,i=1", "m=x,r=%sx,s=AAAA,i=1", "r=%sx,s=!!,i=1",
	} {
		c := scram.NewClient(scram.ClientConfig{Derive: scram.Password(d, "owner", "pw")})
		nonce := strings.TrimPrefix(string(c.First()), "n,,n=,r=")
		_, err := c.Continue(context.Background(), []byte(strings.Replace(challenge, "%s", nonce, 1)))
		require.Error(t, err, challenge)
	}
	c := scram.NewClient(scram.ClientConfig{Derive: scram.Password(d, "owner", "pw")})
	require.Error(t, c.Verify([]byte("v=")), "nothing was asked")
}

func TestDeriverHonoursContext(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = d.Derive(context.Background(), "owner", "slow", []byte("salt"), scram.MaxIterations)
	}()
	cancel()
	// Whether the slot is taken or free, an answer comes at once or the context speaks.
	_, err := d.Derive(ctx, "owner", "fast", []byte("salt"), 1)
	if err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	<-done
	_, err = d.Derive(context.Background(), "owner", "x", nil, scram.MaxIterations+1)
	require.ErrorContains(t, err, "iteration count")
}

func TestVerifierText(t *testing.T) {
	t.Parallel()
	d := scram.NewDeriver(1)
	salt := scram.NewSalt()
	v := derive(t, d, "pw", salt, 4096).Verifier(salt, 4096)
	back, err := scram.ParseVerifier(v.Encode())
	require.NoError(t, err)
	require.True(t, v.Encode() == back.Encode())
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.Equal(t, "[SCRAM verifier]", fmt.Sprintf(verb, v))
		require.Equal(t, "[SCRAM keys]", fmt.Sprintf(verb, scram.Keys{}))
	}
	secret := strings.Repeat("A", 43) + "="
	for _, bad := range []string{
		"", "md5x", "SCRAM-SHA-256$", "SCRAM-SHA-256$1:AA==", "SCRAM-SHA-256$0:AA==$" + secret + ":" + secret, "SCRAM-SHA-256$x:AA==$" + secret + ":" + secret,
		"SCRAM-SHA-256$1:!$" + secret + ":" + secret, "SCRAM-SHA-256$1000001:AA==$" + secret + ":" + secret, "SCRAM-SHA-256$1:AA==$AA==:" + secret, "SCRAM-SHA-256$1:AA==$" + secret + ":AA==",
	} {
		_, err := scram.ParseVerifier(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), secret)
	}
	require.Len(t, v.StoredKey, sha256.Size)
}

func TestPrep(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain": "plain", "I\u00adX": "IX", "\u00aa": "a", "\u2168": "IX", "a\u00a0b": "a b", "\x07": "\x07",
		"\u0627\u0031": "\u0627\u0031", // refused for its direction: taken as it is
		"\xff":         "\xff", "\u00ad": "\u00ad", "a\u0221": "a\u0221",
	} {
		require.Equal(t, want, scram.Prep(in), "%q", in)
	}
}

func FuzzServer(f *testing.F) {
	f.Add("n,,n=,r=abc", "c=biws,r=abc,p=AAAA")
	f.Add("p=tls-server-end-point,,n=,r=abc", "c=,r=,p=")
	f.Fuzz(func(t *testing.T, first, final string) {
		s := scram.NewServer(scram.ServerConfig{Verifier: scram.Mock(nil, "u")})
		_, _ = s.First([]byte(first))
		if _, err := s.Final([]byte(final)); err == nil {
			t.Fatal("a proof without the password")
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add("r=abc,s=AAAA,i=1", "v=AAAA")
	f.Fuzz(func(t *testing.T, challenge, final string) {
		c := scram.NewClient(scram.ClientConfig{Derive: func(context.Context, []byte, int) (scram.Keys, error) { return scram.Keys{}, nil }})
		c.First()
		if _, err := c.Continue(context.Background(), []byte(challenge)); err == nil {
			t.Fatal("a nonce that is not the client's")
		}
		if c.Verify([]byte(final)) == nil {
			t.Fatal("a signature without an exchange")
		}
	})
}
