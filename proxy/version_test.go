package proxy

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// knock connects by hand and sends a start-up packet of a version.
func (g *rig) knock(t testing.TB, version uint32, params ...wire.Param) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", g.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(60*time.Second)))
	c := &raw{t: t, conn: conn, r: wire.NewReader(conn, 64<<20)}
	b, err := wire.AppendStartup(nil, version, append([]wire.Param{
		{Name: "user", Value: g.source.User()}, {Name: "database", Value: g.source.Database()}}, params...))
	require.NoError(t, err)
	c.send(b)
	return c
}

func TestProtocolVersions(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	const v31, v33, grease = uint32(3<<16 | 1), uint32(3<<16 | 3), uint32(3<<16 | 9999)
	option := []wire.Param{{Name: "_pq_.test_protocol_negotiation", Value: "x"}, {Name: "_pq_.other", Value: ""}}
	names := []string{"_pq_.test_protocol_negotiation", "_pq_.other"}
	for name, c := range map[string]struct {
		version uint32
		params  []wire.Param
		want    *wire.Negotiation // nil: nothing is to be negotiated
		key     int
	}{
		"3.0":                  {wire.Version30, nil, nil, 4},
		"3.0 with options":     {wire.Version30, option, &wire.Negotiation{Version: wire.Version30, Unsupported: names}, 4},
		"3.1":                  {v31, nil, &wire.Negotiation{Version: wire.Version30}, 4},
		"3.2":                  {wire.Version32, nil, nil, 32},
		"3.2 with options":     {wire.Version32, option, &wire.Negotiation{Version: wire.Version32, Unsupported: names}, 32},
		"3.3":                  {v33, nil, &wire.Negotiation{Version: wire.Version32}, 32},
		"3.9999 with options":  {grease, option, &wire.Negotiation{Version: wire.Version32, Unsupported: names}, 32},
		"3.9999 with settings": {grease, []wire.Param{{Name: "application_name", Value: "a"}}, &wire.Negotiation{Version: wire.Version32}, 32},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := g.knock(t, c.version, c.params...)
			frames := s.until('Z')
			if c.want != nil {
				require.EqualValues(t, 'v', frames[0].Type, "ahead of authentication")
				n, err := wire.DecodeNegotiate(frames[0].Body)
				require.NoError(t, err)
				require.Equal(t, *c.want, n)
				frames = frames[1:]
			}
			require.EqualValues(t, 'R', frames[0].Type)
			var err error
			for _, f := range frames {
				require.NotEqualValues(t, 'v', f.Type)
				if f.Type == 'K' {
					s.pid, s.key, err = wire.DecodeBackendKeyData(f.Body)
					require.NoError(t, err)
				}
			}
			require.Len(t, s.key, c.key)
			require.Equal(t, "TDCZ", s.query("SELECT 1"), "the server knows nothing of it")

			// The key cancels over the wire; another one, or a longer one, does not.
			s.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(3600)"))
			g.sleeps(t, Source, s.pid)
			other := append([]byte(nil), s.key...)
			other[0] ^= 1
			for _, key := range [][]byte{other, append(s.key[:len(s.key):len(s.key)], 0), s.key} {
				conn, err := net.Dial("tcp", g.Addr().String())
				require.NoError(t, err)
				require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
				_, err = conn.Write(wire.AppendCancel(nil, s.pid, key))
				require.NoError(t, err)
				_, err = conn.Read(make([]byte, 1))
				require.Error(t, err, "it is closed without a word")
				require.NoError(t, conn.Close())
			}
			answer := s.until('Z')
			e, err := wire.DecodeError(answer[len(answer)-2].Body)
			require.NoError(t, err)
			require.Equal(t, pg.CodeQueryCanceled, e.Code)
		})
	}
	for name, version := range map[string]uint32{"2.0": 2 << 16, "4.0": 4 << 16, "1.0": 1 << 16} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := g.knock(t, version).gone()
			require.NotNil(t, e)
			require.Equal(t, "FATAL", e.Severity)
			require.Equal(t, pg.CodeFeatureNotSupported, e.Code)
			require.Contains(t, e.Message, "unsupported frontend protocol "+name)
		})
	}
}

// TestKeysOf32Move cancels by a long key after a move: the key is the session's own.
func TestKeysOf32Move(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.Auth = trustAll{} })
	s := g.knock(t, wire.Version32)
	for _, f := range s.until('Z') {
		if f.Type == 'K' {
			var err error
			s.pid, s.key, err = wire.DecodeBackendKeyData(f.Body)
			require.NoError(t, err)
		}
	}
	g.toTarget(t)
	s.send(wiretest.AppendQuery(nil, "SELECT pg_sleep(3600)"))
	g.sleeps(t, Target, s.pid)
	g.sessions.Cancel(t.Context(), s.pid, s.key)
	require.Contains(t, shape(s.until('Z')), "EZ")
}

// sleeps waits until the session's server runs pg_sleep: a cancel that comes before a
// statement hits nothing.
func (g *rig) sleeps(t testing.TB, side string, pid uint32) {
	t.Helper()
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Kind(side)).AdminDSN("postgres"))
	eventually(t, "it sleeps", func() bool {
		return value(t, admin, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", g.session(t, pid, false).ServerPID) == "1"
	})
}
