package auth_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/tlsconf/tlstest"
)

// TestLibpq: psql logs in as its users do, channel binding required. It hangs up on its own, since
// there is no server to pass it to.
func TestLibpq(t *testing.T) {
	t.Parallel()
	bin, err := pgcluster.Find()
	require.NoError(t, err)
	ca := tlstest.NewAuthority(t, false)
	cert, err := tlsconf.LoadServer(ca.Issue(t, "127.0.0.1").Write(t, t.TempDir()))
	require.NoError(t, err)
	users := store(t)
	for name, c := range map[string]struct {
		dsn string
		ok  bool
	}{
		"bound":          {"user=plain password=pw sslmode=verify-full channel_binding=require sslrootcert=" + ca.RootFile, true},
		"verifier":       {"user=verifier password=pw sslmode=require channel_binding=require", true},
		"unbound":        {"user=plain password=pw sslmode=require channel_binding=disable", true},
		"plain":          {"user=plain password=pw sslmode=disable", true},
		"prepared":       {"user=umlaut password=pässwörd sslmode=disable", true},
		"md5":            {"user=hashed password=pw sslmode=require", true},
		"wrong password": {"user=plain password=no sslmode=require", false},
		"unknown user":   {"user=nobody password=pw sslmode=require", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			done := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					err = door(context.Background(), conn, users, cert)
				}
				done <- err
			}()
			ctx, stop := context.WithTimeout(context.Background(), time.Minute)
			defer stop()
			host, port, _ := net.SplitHostPort(l.Addr().String())
			// Without a statement and without input psql logs in, reads the end of its input and
			// leaves.
			cmd := exec.CommandContext(ctx, bin.Path("psql"), "-X", "-d", "host="+host+" port="+port+" dbname=d "+c.dsn, "-f", os.DevNull)
			cmd.Env = []string{"HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}
			out, err := cmd.CombinedOutput()
			if c.ok {
				require.NoError(t, err, string(out))
				require.NoError(t, <-done)
				return
			}
			require.Error(t, err)
			require.Contains(t, string(out), "password authentication failed for user")
			require.Error(t, <-done)
		})
	}
}
