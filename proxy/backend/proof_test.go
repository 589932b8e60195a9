package backend_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/tlsconf/tlstest"
	"crossfade/proxy/wire"
)

// prove has a client that knows the password prove itself to us by a secret.
func prove(t *testing.T, user, password, secret string) auth.Proof {
	t.Helper()
	s, err := auth.ParseSecret(secret)
	require.NoError(t, err)
	here, there := net.Pipe()
	defer here.Close()
	_ = here.SetDeadline(time.Now().Add(patience))
	_ = there.SetDeadline(time.Now().Add(patience))
	go func() {
		defer there.Close()
		r := wire.NewReader(there, 0)
		client := scram.NewClient(scram.ClientConfig{Derive: scram.Password(scram.NewDeriver(1), "test", password)})
		for {
			f, err := r.Next()
			if err != nil {
				return
			}
			a, err := wire.DecodeAuth(f.Body)
			var out []byte
			switch {
			case err != nil:
				return
			case a.Kind == wire.AuthMD5:
				out = wire.AppendPassword(nil, auth.MD5Response(auth.MD5Hash(user, password), a.Salt))
			case a.Kind == wire.AuthSASL:
				out = wire.AppendSASLInitial(nil, scram.Mechanism, client.First())
			case a.Kind == wire.AuthSASLContinue:
				final, err := client.Continue(context.Background(), a.Data)
				if err != nil {
					return
				}
				out = wire.AppendSASLResponse(nil, final)
			default:
				_, _ = io.Copy(io.Discard, there)
				return
			}
			if _, err := there.Write(out); err != nil {
				return
			}
		}
	}()
	proof, err := auth.Server(context.Background(), here, auth.Client{User: user}, auth.NewUsers(auth.User{Name: user, Secret: s}))
	require.NoError(t, err)
	return proof
}

// TestProofLogsIn: what a client proved itself by logs in to the server that keeps the same, with a
// bound channel too, and to no other.
func TestProofLogsIn(t *testing.T) {
	t.Parallel()
	ca := tlstest.NewAuthority(t, false)
	c, base := cluster(t, ca)
	admin := pgtest.Conn(t, c.AdminDSN("postgres"))
	base.Password = ""
	for _, user := range []string{"u_scram", "u_md5", "u_ssl"} {
		with := base
		with.User = user
		with.Proof = prove(t, user, "pw", pgtest.Value(t, admin, "select rolpassword from pg_authid where rolname = $1", user))
		if user == "u_ssl" {
			with.TLS = mode(t, "verify-full", ca.RootFile)
			with.TLS.Binding = tlsconf.BindingRequire
		}
		conn, err := dial(t, with)
		require.NoError(t, err, user)
		rows, _ := ask(t, conn, "select session_user")
		require.Equal(t, []string{user}, rows)
	}
	changed := base
	changed.Proof = prove(t, "u_scram", "pw", pgtest.Value(t, admin, "select rolpassword from pg_authid where rolname = 'u_scram'"))
	pgtest.Exec(t, admin, "alter role u_scram password 'pw'") // the same password with another salt
	_, err := dial(t, changed)
	require.ErrorIs(t, err, scram.ErrOtherVerifier)
	clear := base
	clear.User, clear.Proof = "u_clear", changed.Proof
	_, err = dial(t, clear)
	require.ErrorIs(t, err, backend.ErrNoPassword)
}
