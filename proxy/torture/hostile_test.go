package torture

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/tlsconf/tlstest"
	"crossfade/proxy/wire"
)

// outcome is what a peer that breaks the protocol is told before its connection ends.
type outcome struct {
	said string // bytes that are no frame: the answer to an SSLRequest
	code string // SQLSTATE, "" for none
}

// provoke sends bytes to an address and returns what comes of it. A connection that is
// not closed in time fails the test.
func provoke(t testing.TB, address string, sends []byte) outcome {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, _ = conn.Write(sends)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	all, err := io.ReadAll(conn)
	var late net.Error
	require.False(t, errors.As(err, &late) && late.Timeout(), "the connection is not closed; it said %q", all)
	return told(t, all)
}

func told(t testing.TB, all []byte) outcome {
	t.Helper()
	var o outcome
	for len(all) > 0 && (all[0] == 'N' || all[0] == 'S') {
		o.said, all = o.said+string(all[:1]), all[1:]
	}
	r := wire.NewReader(bytes.NewReader(all), 1<<20)
	for {
		f, err := r.Next()
		if err != nil {
			return o
		}
		if f.Type == 'E' {
			e, err := wire.DecodeError(f.Body)
			require.NoError(t, err)
			o.code = e.Code
			require.Equal(t, "FATAL", e.Severity)
		}
	}
}

// others are clients who do nothing wrong. The function has each of them ask something.
func (g *rig) others(n int) func(name string) {
	g.t.Helper()
	var mu sync.Mutex
	var list []*lane
	for range n {
		list = append(list, g.lane())
	}
	return func(name string) {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range list {
			l.mark(l.count(), name)
		}
	}
}

// packet is what begins a connection: a length, a code and a body.
func packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

// TestUnauthenticatedClientsThatBreakTheProtocol compares the proxy with PostgreSQL ahead of the
// log-in: where the server says why it closes, the proxy gives the same SQLSTATE, and it may
// say so too where the server only closes. A good client is served all the while.
func TestUnauthenticatedClientsThatBreakTheProtocol(t *testing.T) {
	t.Parallel()
	// A server that waits no longer than the proxy for what does not come.
	c := pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) {
		c.Settings["authentication_timeout"] = "3s"
	})
	dsn := pgtest.Database(t, c)
	g := &rig{t: t, source: dsn, target: dsn}
	g.start(func(c *proxy.Config) { c.LoginTimeout = 3 * time.Second })
	well := g.others(1)
	start := func(params ...string) []byte { return packet(wire.Version30, strings.Join(params, "\x00")+"\x00\x00") }
	ssl := wire.AppendSSLRequest(nil)
	const gss = 1234<<16 | 5680
	// Where the proxy does not do as PostgreSQL does, and why.
	ours := map[string]outcome{
		"GSSENCRequest twice":             {"N", "08P01"}, // a server with GSSAPI says yes, or refuses what follows
		"protocol 2":                      {"", "0A000"},  // PostgreSQL answers in the old form, without a code
		"SSLRequest with bytes in it":     {"", "08P01"},  // PostgreSQL passes over them; nobody sends them
		"10,001 bytes":                    {"", "08P01"},  // PostgreSQL does not count the length word
		"a password of 1 GiB":             {"", "08P01"},  // PostgreSQL calls it a wrong password
		"a password of a negative length": {"", "08P01"},
	}
	for name, sends := range map[string][]byte{
		"nothing at all":                       nil,
		"one byte":                             {0},
		"a web browser":                        []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"garbage":                              {0xff, 0xfe, 0xfd, 0xfc, 1, 2, 3, 4, 5, 6, 7, 8},
		"a length of 1 GiB":                    append(binary.BigEndian.AppendUint32(nil, 1<<30), 0, 3, 0, 0),
		"a negative length":                    append(binary.BigEndian.AppendUint32(nil, 1<<32-1), 0, 3, 0, 0),
		"a length of 0":                        {0, 0, 0, 0},
		"a length of 7":                        {0, 0, 0, 7, 0, 3, 0},
		"a length of 8, nothing else":          {0, 0, 0, 8},
		"10,001 bytes":                         append(binary.BigEndian.AppendUint32(nil, 10001), bytes.Repeat([]byte("x"), 9997)...),
		"10,005 bytes":                         append(binary.BigEndian.AppendUint32(nil, 10005), bytes.Repeat([]byte("x"), 10001)...),
		"half a start-up packet":               start("user", "x", "database", "y")[:20],
		"protocol 2":                           packet(2<<16, "user\x00x\x00\x00"),
		"protocol 4":                           packet(4<<16, "user\x00x\x00\x00"),
		"no user":                              start("database", "x"),
		"an empty user":                        start("user", "", "database", "x"),
		"nothing in the packet":                packet(wire.Version30, "\x00"),
		"a name without a value":               packet(wire.Version30, "user\x00"),
		"no terminator":                        packet(wire.Version30, "user\x00x\x00"),
		"bytes behind the terminator":          packet(wire.Version30, "user\x00x\x00\x00more"),
		"NUL in a name":                        packet(wire.Version30, "user\x00x\x00data\x00base\x00y\x00\x00"),
		"no NUL at all":                        packet(wire.Version30, "user=x"),
		"SSLRequest twice":                     join(ssl, ssl),
		"SSLRequest, then nothing":             ssl,
		"SSLRequest with bytes in it":          packet(1234<<16|5679, "more"),
		"TLS without asking":                   {0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3},
		"GSSENCRequest twice":                  join(packet(gss, ""), packet(gss, "")),
		"a short cancel request":               packet(1234<<16|5678, "\x00\x00\x00\x01"),
		"a cancel request":                     wire.AppendCancel(nil, 1, []byte{1, 2, 3, 4}),
		"a database of 5,000 characters":       start("user", dsn.User(), "database", strings.Repeat("d", 5000)),
		"garbage for a password":               join(start("user", dsn.User(), "database", dsn.Database()), []byte("GARBAGE GARBAGE")),
		"a query for a password":               join(start("user", dsn.User(), "database", dsn.Database()), query("SELECT 1")),
		"a password of 1 GiB":                  join(start("user", dsn.User(), "database", dsn.Database()), []byte("p\x40\x00\x00\x00")),
		"a password of a negative length":      join(start("user", dsn.User(), "database", dsn.Database()), []byte("p\xff\xff\xff\xff")),
		"a SASL mechanism that is not offered": join(start("user", dsn.User(), "database", dsn.Database()), wire.AppendSASLInitial(nil, "PLAIN", []byte("x"))),
		"a SASL message without its data":      join(start("user", dsn.User(), "database", dsn.Database()), wire.AppendFrame(nil, 'p', []byte("SCRAM-SHA-256\x00"))),
		"a SASL length beyond the message":     join(start("user", dsn.User(), "database", dsn.Database()), wire.AppendFrame(nil, 'p', []byte("SCRAM-SHA-256\x00\x7f\xff\xff\xff"))),
		"a SCRAM message that is none":         join(start("user", dsn.User(), "database", dsn.Database()), wire.AppendSASLInitial(nil, "SCRAM-SHA-256", []byte("what?"))),
		"a password and silence":               join(start("user", dsn.User(), "database", dsn.Database()), []byte("p\x00\x00")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := provoke(t, address(dsn), sends)
			got := provoke(t, g.Addr().String(), sends)
			if other, ok := ours[name]; ok {
				require.Equal(t, other, got, "PostgreSQL says %+v", want)
				return
			}
			require.Equal(t, want.said, got.said)
			if want.code == "" {
				require.Contains(t, []string{"", "08P01", "28000", "57014"}, got.code, "where PostgreSQL only closes")
			} else {
				require.Equal(t, want.code, got.code)
			}
			l := g.lane()
			l.mark(l.count(), "a client beside it")
		})
	}
	t.Cleanup(func() { well("a client from before") })
}

// TestUnauthenticatedClientsOverTLS: what is read as plain text after an SSLRequest is no TLS, and
// is never taken for a start-up packet. PostgreSQL closes without a word, as it must to a client
// that expects TLS, and so does the proxy.
func TestUnauthenticatedClientsOverTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := tlstest.NewAuthority(t, false).Issue(t, "127.0.0.1").Write(t, t.TempDir())
	certificate, err := tlsconf.LoadServer(certFile, keyFile)
	require.NoError(t, err)
	g := newRig(t, tortureSchema, func(c *proxy.Config) { c.TLS, c.LoginTimeout = certificate, 3*time.Second })
	well := g.others(2)
	start := packet(wire.Version30, "user\x00"+g.source.User()+"\x00\x00")
	ssl := wire.AppendSSLRequest(nil)
	hello := func(protocols ...string) []byte {
		c := &recorder{}
		_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}).Handshake() //nolint:gosec // it never comes so far
		return c.written
	}
	for name, c := range map[string]struct {
		sends []byte
		said  string
	}{
		"a start-up packet behind it": {join(ssl, start), "S"},
		"SSLRequest behind it":        {join(ssl, ssl), "S"},
		"garbage behind it":           {join(ssl, []byte("garbage garbage garbage")), "S"},
		"nothing behind it":           {ssl, "S"},
		"half a TLS record behind it": {join(ssl, hello()[:30]), "S"},
		"direct TLS, garbage":         {[]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3}, ""},
		"direct TLS, then nothing":    {[]byte{0x16}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := provokeTLS(t, g.Addr().String(), c.sends)
			require.Equal(t, c.said, got[:min(len(got), len(c.said))])
			rest := got[len(c.said):]
			require.True(t, rest == "" || rest[0] == 0x15, "nothing but an alert of TLS: %q", rest)
			well(name)
		})
	}
	for name, protocols := range map[string][]string{"no ALPN": nil, "another protocol": {"http/1.1"}} {
		t.Run("direct TLS, "+name, func(t *testing.T) {
			t.Parallel()
			conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", g.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}) //nolint:gosec // a certificate of the test's own
			if err != nil {
				return // refused in the handshake
			}
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			_, _ = conn.Write(start)
			all, err := io.ReadAll(conn)
			require.Empty(t, all)
			var late net.Error
			require.False(t, errors.As(err, &late) && late.Timeout(), "it is not closed")
			well(name)
		})
	}
	t.Run("direct TLS, the right protocol", func(t *testing.T) {
		t.Parallel()
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", g.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{tlsconf.Protocol}}) //nolint:gosec // a certificate of the test's own
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = conn.Write(join(ssl, start))
		require.NoError(t, err)
		f, err := wire.NewReader(conn, 1<<20).Next()
		require.NoError(t, err)
		require.Equal(t, "E", string(f.Type), "TLS is asked for within TLS")
	})
}

// recorder is a connection that keeps what is written and has nothing to read.
type recorder struct {
	net.Conn
	written []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.written = append(r.written, b...)
	return len(b), nil
}
func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recorder) Close() error                { return nil }
func (r *recorder) SetDeadline(time.Time) error { return nil }

// provokeTLS sends bytes and returns all that comes until the connection is closed.
func provokeTLS(t testing.TB, address string, sends []byte) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, _ = conn.Write(sends)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	all, err := io.ReadAll(conn)
	var late net.Error
	require.False(t, errors.As(err, &late) && late.Timeout(), "it is not closed; it said %q", all)
	return string(all)
}

// TestClientsWhoBreakTheProtocol compares the proxy with PostgreSQL after the log-in.
func TestClientsWhoBreakTheProtocol(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	well := g.others(2)
	head := func(typ byte, length uint32) []byte { return binary.BigEndian.AppendUint32([]byte{typ}, length) }
	bindOf := func(body string) []byte {
		return join(parse("", "SELECT $1"), wire.AppendFrame(nil, 'B', []byte(body)), syncNow)
	}
	for name, c := range map[string]struct {
		sends []byte
		stays bool // the session goes on
	}{
		"an unknown type":                       {wire.AppendFrame(nil, 'y', nil), false},
		"an unknown type in a transaction":      {join(query("BEGIN"), wire.AppendFrame(nil, '!', []byte("x"))), false},
		"type 0":                                {[]byte{0, 0, 0, 0, 4}, false},
		"a password":                            {wire.AppendPassword(nil, "late"), false},
		"a length of 1 GiB":                     {head('Q', 1<<30), false},
		"a length of 2 GiB less one":            {head('Q', 1<<31-1), false},
		"a negative length":                     {head('Q', 1<<32-1), false},
		"a length of 2 GiB":                     {head('P', 1<<31), false},
		"a length of 3":                         {head('Q', 3), false},
		"a length of 0":                         {head('S', 0), false},
		"garbage":                               {[]byte("GARBAGE GARBAGE GARBAGE"), false},
		"a Sync of 1 MiB":                       {join(head('S', 1<<20), make([]byte, 1<<20)), false},
		"a query in COPY":                       {join(query(copySQL), good, query("SELECT 1")), false},
		"a length of 1 GiB in COPY":             {join(query(copySQL), head('d', 1<<30)), false},
		"a query without NUL":                   {join(wire.AppendFrame(nil, 'Q', []byte("SELECT 1")), query("SELECT 2")), true},
		"a query with bytes behind NUL":         {join(wire.AppendFrame(nil, 'Q', []byte("SELECT 1\x00SELECT 3\x00")), query("SELECT 2")), true},
		"an empty query message":                {join(wire.AppendFrame(nil, 'Q', nil), query("SELECT 2")), true},
		"an empty Parse":                        {join(wire.AppendFrame(nil, 'P', nil), syncNow), true},
		"an empty Bind":                         {join(wire.AppendFrame(nil, 'B', nil), syncNow), true},
		"an empty Describe":                     {join(wire.AppendFrame(nil, 'D', nil), syncNow), true},
		"a Describe of nothing that exists":     {join(wire.AppendFrame(nil, 'D', []byte("X\x00")), syncNow), true},
		"a Close of nothing that exists":        {join(wire.AppendFrame(nil, 'C', []byte("X\x00")), syncNow), true},
		"a Sync with a body":                    {join(wire.AppendFrame(nil, 'S', []byte("x")), query("SELECT 1")), true},
		"a Bind with a length of -2":            {bindOf("\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00"), true},
		"a Bind with the least length":          {bindOf("\x00\x00\x00\x00\x00\x01\x80\x00\x00\x00\x00\x00"), true},
		"a Bind with a length beyond it":        {bindOf("\x00\x00\x00\x00\x00\x01\x00\xff\xff\xff\x00\x00"), true},
		"a Bind that counts 65,535 of nothing":  {bindOf("\x00\x00\x00\x00\xff\xff"), true},
		"a Bind with 65,535 format codes":       {bindOf("\x00\x00\xff\xff"), true},
		"a Bind with a format of 9":             {bindOf("\x00\x00\x00\x01\x00\x09\x00\x01\x00\x00\x00\x01x\x00\x00"), true},
		"a Parse that counts 65,535 of nothing": {join(wire.AppendFrame(nil, 'P', []byte("\x00SELECT 1\x00\xff\xff")), syncNow), true},
		"a FunctionCall that counts nothing":    {wire.AppendFrame(nil, 'F', []byte("\x00\x00\x06\x4a\x00\x00\xff\xff")), true},
		"an Execute without rows":               {join(unit("SELECT 1"), wire.AppendFrame(nil, 'E', []byte("\x00")), syncNow), true},
		"a statement's name without NUL":        {join(wire.AppendFrame(nil, 'P', []byte("name")), syncNow), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, l := dial(t, address(g.source), g.source), g.lane()
			want.write(c.sends)
			l.write(c.sends)
			if c.stays {
				same(t, want.mark(0, "goes on"), l.mark(0, "goes on"), name)
				require.NoError(t, l.conn.Close())
			} else {
				server, err := want.closed()
				require.True(t, err, "PostgreSQL keeps it; it said %s", tell(server))
				proxied, err := l.closed()
				require.True(t, err, "the proxy keeps it; it said %s", tell(proxied))
				t.Logf("PostgreSQL %s, proxy %s", tell(server), tell(proxied))
				if code(t, server) != "" {
					same(t, server, proxied[:min(len(server), len(proxied))], name)
				}
				if len(proxied) > len(server) {
					require.Len(t, proxied, len(server)+1)
					require.Contains(t, []string{"08P01", "08006"}, code(t, proxied), "where PostgreSQL only closes")
				}
			}
			well(name)
		})
	}
	t.Cleanup(func() {
		require.NoError(t, g.move(true), "those who are left can be moved")
		well("moved")
	})
}

// write sends what need not be the protocol: nothing of it is counted, and that
// the other end has gone is no error.
func (l *lane) write(b []byte) { _, _ = l.conn.Write(b) }

// closed waits for the other end to close and returns what it said.
func (l *lane) closed() ([]wire.Frame, bool) {
	select {
	case <-l.done:
	case <-time.After(20 * time.Second): // it need not close
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.frames, l.mu.err != nil
}

// TestHalfAFrameThenSilence: the one session that can never come to a boundary is named
// by the pause, and everybody else goes on.
func TestHalfAFrameThenSilence(t *testing.T) {
	t.Parallel()
	g := newRig(t, tortureSchema)
	well := g.others(2)
	for _, half := range [][]byte{{'Q'}, query("SELECT 1")[:7], binary.BigEndian.AppendUint32([]byte{'Q'}, 1<<29), unit("SELECT 1")} {
		bad := g.raw()
		bad.write(half)
		eventually(t, "it is seen", func() bool {
			g.epoch++
			_, err := g.Pause(within(t), g.epoch, 100*time.Millisecond)
			if err == nil {
				require.NoError(t, g.Resume(within(t), g.epoch))
				return false
			}
			late := err.(*proxy.DrainTimeoutError)
			require.Len(t, late.Sessions, 1)
			require.Equal(t, bad.pid, late.Sessions[0].PID)
			require.Contains(t, []string{wire.ReasonPartial, wire.ReasonUnit}, late.Sessions[0].Detail)
			return true
		})
		well("others go on")
		require.NoError(t, bad.conn.Close())
		eventually(t, "it has left", func() bool { return g.Status().Sessions == 2 })
	}
	require.NoError(t, g.move(true))
}
