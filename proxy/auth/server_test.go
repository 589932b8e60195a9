package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/proxy/auth"
	"crossfade/proxy/auth/scram"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/tlsconf/tlstest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// door accepts one client as the proxy does: start-up, TLS, authentication, and a log-in that ends
// in ReadyForQuery.
func door(ctx context.Context, conn net.Conn, store auth.Store, cert *tlsconf.Server) error {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var binding []byte
	for {
		s, err := wire.ReadStartup(conn)
		if err != nil {
			return err
		}
		if s.Kind == wire.KindSSL {
			if cert == nil {
				_, _ = conn.Write([]byte("N"))
				continue
			}
			_, _ = conn.Write([]byte("S"))
			if conn, binding, err = cert.Handshake(ctx, conn, false); err != nil {
				return err
			}
			defer conn.Close()
			continue
		}
		user, _ := s.Get("user")
		if _, err := auth.Server(ctx, conn, auth.Client{User: user, Binding: binding}, store); err != nil {
			var told *wire.ServerError
			if errors.As(err, &told) {
				_, _ = conn.Write(wire.AppendError(nil, told))
			}
			return err
		}
		_, err = conn.Write(wire.AppendReadyForQuery(nil, 'I'))
		_, _ = io.Copy(io.Discard, conn)
		return err
	}
}

// knock logs in with pgx and returns both ends' errors.
func knock(t *testing.T, store auth.Store, cert *tlsconf.Server, dsn string) (clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = door(context.Background(), conn, store, cert)
		}
		done <- err
	}()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	c, clientErr := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s dbname=d %s", host, port, dsn))
	if clientErr == nil {
		_ = c.Close(ctx)
	}
	return clientErr, <-done
}

func secret(t *testing.T, s string) auth.Secret {
	t.Helper()
	out, err := auth.ParseSecret(s)
	require.NoError(t, err)
	return out
}

func store(t *testing.T) *auth.Users {
	t.Helper()
	salt := scram.NewSalt()
	k, err := scram.NewDeriver(1).Derive(context.Background(), "owner", "pw", salt, 4096)
	require.NoError(t, err)
	return auth.NewUsers(
		auth.User{Name: "plain", Secret: secret(t, "pw")},
		auth.User{Name: "umlaut", Secret: secret(t, "pässwörd")},
		auth.User{Name: "verifier", Secret: secret(t, k.Verifier(salt, 4096).Encode())},
		auth.User{Name: "hashed", Secret: secret(t, "md5"+auth.MD5Hash("hashed", "pw"))},
		auth.User{Name: "trusted", Secret: auth.Trust()},
		auth.User{Name: "blank"},
	)
}

func TestLogIn(t *testing.T) {
	t.Parallel()
	users := store(t)
	ca := tlstest.NewAuthority(t, false)
	cert, err := tlsconf.LoadServer(ca.Issue(t, "127.0.0.1").Write(t, t.TempDir()))
	require.NoError(t, err)
	const refused = "password authentication failed for user"
	for _, c := range []struct{ dsn, err string }{
		{"user=plain password=pw", ""},
		{"user=umlaut password=pässwörd", ""},
		{"user=verifier password=pw", ""},
		{"user=hashed password=pw", ""},
		{"user=trusted", ""},
		{"user=plain password=no", refused},
		{"user=verifier password=no", refused},
		{"user=hashed password=no", refused},
		{"user=nobody password=pw", refused},
		{"user=blank password=pw", refused},
	} {
		for _, mode := range []string{"sslmode=disable", "sslmode=require", "sslmode=require channel_binding=disable"} {
			t.Run(c.dsn+" "+mode, func(t *testing.T) {
				t.Parallel()
				cErr, sErr := knock(t, users, cert, c.dsn+" "+mode)
				if c.err == "" {
					require.NoError(t, cErr)
					require.NoError(t, sErr)
					return
				}
				var told *pgconn.PgError
				require.ErrorAs(t, cErr, &told)
				require.Equal(t, "28P01", told.Code)
				require.Contains(t, told.Message, c.err)
				require.Error(t, sErr)
			})
		}
	}
	t.Run("channel binding", func(t *testing.T) {
		t.Parallel()
		cErr, _ := knock(t, users, cert, "user=plain password=pw sslmode=verify-full channel_binding=require sslrootcert="+ca.RootFile)
		require.NoError(t, cErr)
	})
	t.Run("no channel binding without TLS", func(t *testing.T) {
		t.Parallel()
		cErr, _ := knock(t, users, nil, "user=plain password=pw sslmode=disable channel_binding=require")
		require.Error(t, cErr)
	})
}

// scripted answers as a client with fixed messages and keeps what it is told.
type scripted struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { return s.out.Write(p) }

func TestHostileClients(t *testing.T) {
	t.Parallel()
	users := store(t)
	for name, c := range map[string]struct {
		user string
		in   []byte
		code string
	}{
		"too long":          {"plain", []byte("p\x00\x00\x20\x05"), "08P01"},
		"negative":          {"plain", []byte("p\xff\xff\xff\xff"), "08P01"},
		"other message":     {"plain", wiretest.AppendQuery(nil, "select 1"), "08P01"},
		"no mechanism":      {"plain", wire.AppendFrame(nil, 'p', nil), "08P01"},
		"unknown mechanism": {"plain", wire.AppendSASLInitial(nil, "PLAIN", []byte("x")), "08P01"},
		"plus without TLS":  {"plain", wire.AppendSASLInitial(nil, scram.MechanismPlus, []byte("p=tls-server-end-point,,n=,r=x")), "08P01"},
		"garbage":           {"plain", wire.AppendSASLInitial(nil, scram.Mechanism, []byte("garbage")), "08P01"},
		"md5, no NUL":       {"hashed", wire.AppendFrame(nil, 'p', []byte("md5")), "08P01"},
		"empty md5":         {"hashed", wire.AppendPassword(nil, ""), "28P01"},
		"NUL in the middle": {"plain", wire.AppendSASLInitial(nil, scram.Mechanism, []byte("n,,n=,r=a\x00b")), "08P01"},
		"zeros":             {"plain", wire.AppendFrame(nil, 'p', make([]byte, 100)), "08P01"},
		"authzid":           {"plain", wire.AppendSASLInitial(nil, scram.Mechanism, []byte("n,a=root,n=,r=x")), "28000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &scripted{in: bytes.NewReader(c.in)}
			_, err := auth.Server(context.Background(), conn, auth.Client{User: c.user}, users)
			var told *wire.ServerError
			require.ErrorAs(t, err, &told)
			require.Equal(t, c.code, told.Code)
			require.True(t, told.Fatal())
		})
	}
	_, err := auth.Server(context.Background(), &scripted{in: bytes.NewReader(nil)}, auth.Client{User: "plain"}, users)
	require.ErrorIs(t, err, io.EOF)
}

// TestOfferRemoved: a client that could bind the channel and saw no offer of it is refused, since
// there was one.
func TestOfferRemoved(t *testing.T) {
	t.Parallel()
	conn := &scripted{in: bytes.NewReader(wire.AppendSASLInitial(nil, scram.Mechanism, []byte("y,,n=,r=abc")))}
	_, err := auth.Server(context.Background(), conn, auth.Client{User: "plain", Binding: []byte("hash")}, store(t))
	var told *wire.ServerError
	require.ErrorAs(t, err, &told)
	require.Equal(t, "28000", told.Code)
	require.Contains(t, told.Message, "channel binding negotiation error")
}

// TestUnknownUserLooksKnown: the challenge of a user who does not exist has the form of one who
// does, and its salt stays.
func TestUnknownUserLooksKnown(t *testing.T) {
	t.Parallel()
	users := store(t)
	challenge := func(user string) (salt, rest string) {
		conn := &scripted{in: bytes.NewReader(wire.AppendSASLInitial(nil, scram.Mechanism, []byte("n,,n=,r=abc")))}
		_, err := auth.Server(context.Background(), conn, auth.Client{User: user}, users)
		require.ErrorIs(t, err, io.EOF)
		r := wire.NewReader(&conn.out, 0)
		_, err = r.Next()
		require.NoError(t, err)
		f, err := r.Next()
		require.NoError(t, err)
		a, err := wire.DecodeAuth(f.Body)
		require.NoError(t, err)
		parts := strings.Split(string(a.Data), ",")
		require.Len(t, parts, 3)
		return parts[1], parts[2]
	}
	known, i1 := challenge("plain")
	mock, i2 := challenge("nobody")
	again, _ := challenge("nobody")
	require.Equal(t, i1, i2)
	require.Len(t, mock, len(known))
	require.Equal(t, mock, again)
}

type broken struct{}

func (broken) Secret(context.Context, string) (auth.Secret, bool, error) {
	return auth.Secret{}, false, errors.New("no connection")
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	conn := &scripted{in: bytes.NewReader(nil)}
	_, err := auth.Server(context.Background(), conn, auth.Client{User: "u"}, broken{})
	require.ErrorContains(t, err, "look up user: no connection")
	require.Empty(t, conn.out.Bytes(), "the client is told nothing")
}
