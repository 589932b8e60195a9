package auth_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/wire"
)

// attempt is one log-in over a pipe by our own client; it returns what the server's end found.
func attempt(t *testing.T, users auth.Store, c auth.Client, password string) (auth.Proof, error) {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		defer there.Close()
		_ = there.SetDeadline(time.Now().Add(time.Minute))
		answer(there, c.User, password)
	}()
	_ = here.SetDeadline(time.Now().Add(time.Minute))
	return auth.Server(context.Background(), here, c, users)
}

// answer answers authentication requests until the server has enough.
func answer(conn net.Conn, user, password string) {
	r := wire.NewReader(conn, 0)
	s := scram.NewClient(scram.ClientConfig{Derive: scram.Password(scram.NewDeriver(1), "test", password)})
	for {
		f, err := r.Next()
		if err != nil || f.Type != 'R' {
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		a, err := wire.DecodeAuth(f.Body)
		if err != nil {
			return
		}
		var out []byte
		switch a.Kind {
		case wire.AuthMD5:
			out = wire.AppendPassword(nil, auth.MD5Response(auth.MD5Hash(user, password), a.Salt))
		case wire.AuthSASL:
			out = wire.AppendSASLInitial(nil, scram.Mechanism, s.First())
		case wire.AuthSASLContinue:
			final, err := s.Continue(context.Background(), a.Data)
			if err != nil {
				return
			}
			out = wire.AppendSASLResponse(nil, final)
		default:
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// TestTimeAndRight: an expired password is refused, and NOLOGIN is reported to a client that has
// authenticated.
func TestTimeAndRight(t *testing.T) {
	t.Parallel()
	base := store(t)
	for _, user := range []string{"plain", "verifier", "hashed"} {
		s, _, err := base.Secret(context.Background(), user)
		require.NoError(t, err)
		for name, x := range map[string]struct {
			secret   auth.Secret
			password string
			code     string
		}{
			"for ever":           {s, "pw", ""},
			"still":              {s.ValidUntil(time.Now().Add(time.Hour)), "pw", ""},
			"over":               {s.ValidUntil(time.Now().Add(-time.Second)), "pw", "28P01"},
			"no login":           {s.NoLogin(), "pw", "28000"},
			"no login, not he":   {s.NoLogin(), "no", "28P01"},
			"no login, and over": {s.NoLogin().ValidUntil(time.Now().Add(-time.Second)), "pw", "28P01"},
		} {
			t.Run(user+" "+name, func(t *testing.T) {
				t.Parallel()
				_, err := attempt(t, auth.NewUsers(auth.User{Name: user, Secret: x.secret}), auth.Client{User: user}, x.password)
				requireCode(t, x.code, err)
			})
		}
	}
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	if code == "" {
		require.NoError(t, err)
		return
	}
	var told *wire.ServerError
	require.ErrorAs(t, err, &told)
	require.Equal(t, code, told.Code, told.Message)
}

// TestCertificate: the common name stands for the password of the user of that name, and of no
// other.
func TestCertificate(t *testing.T) {
	t.Parallel()
	users := store(t)
	for name, x := range map[string]struct {
		client   auth.Client
		password string
		code     string
	}{
		"his own":                       {auth.Client{User: "plain", Certificate: "plain"}, "no", ""},
		"his own, required":             {auth.Client{User: "plain", Certificate: "plain", CertificateOnly: true}, "no", ""},
		"without a password to compare": {auth.Client{User: "blank", Certificate: "blank"}, "no", ""},
		"another's, by password":        {auth.Client{User: "plain", Certificate: "verifier"}, "pw", ""},
		"another's, wrong password":     {auth.Client{User: "plain", Certificate: "verifier"}, "no", "28P01"},
		"another's, required":           {auth.Client{User: "plain", Certificate: "verifier", CertificateOnly: true}, "pw", "28000"},
		"none, required":                {auth.Client{User: "plain", CertificateOnly: true}, "pw", "28000"},
		"none, required, trusted":       {auth.Client{User: "trusted", CertificateOnly: true}, "", "28000"},
		"of nobody":                     {auth.Client{User: "nobody", Certificate: "nobody"}, "pw", "28000"},
		"case":                          {auth.Client{User: "plain", Certificate: "Plain"}, "no", "28P01"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proof, err := attempt(t, users, x.client, x.password)
			requireCode(t, x.code, err)
			require.True(t, proof.IsZero())
		})
	}
	blocked, _, _ := users.Secret(context.Background(), "plain")
	_, err := attempt(t, auth.NewUsers(auth.User{Name: "plain", Secret: blocked.NoLogin()}), auth.Client{User: "plain", Certificate: "plain"}, "")
	requireCode(t, "28000", err)
}

// TestProof: only the proof against a secret that a server may hold as well is worth anything.
func TestProof(t *testing.T) {
	t.Parallel()
	users := store(t)
	for user, want := range map[string]string{"plain": "", "verifier": "scram", "hashed": "md5", "trusted": ""} {
		proof, err := attempt(t, users, auth.Client{User: user}, "pw")
		require.NoError(t, err)
		got := ""
		if proof.SCRAM() != nil {
			got = "scram"
		}
		if proof.MD5() != "" {
			got += "md5"
		}
		require.Equal(t, want, got, user)
		require.Equal(t, want == "", proof.IsZero())
		require.Equal(t, "[proof]", fmt.Sprintf("%+v", proof))
	}
	_, err := attempt(t, users, auth.Client{User: "verifier"}, "no")
	requireCode(t, "28P01", err)
}
