package backend_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
	"crossfade/proxy/wire/wiretest"
)

// serve is a server that says the same whatever it is told, and the configuration to reach it. It
// ends with the test.
func serve(t *testing.T, says []byte, keepOpen bool) backend.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write(says)
			if keepOpen {
				_ = conn.SetReadDeadline(time.Now().Add(patience))
			} else if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return backend.Config{Address: l.Addr().String(), User: "u", Password: "topsecret", Database: "d"}
}

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

func TestHostileServers(t *testing.T) {
	t.Parallel()
	ok := wire.AppendAuthOK(nil)
	for name, c := range map[string]struct {
		says []byte
		err  string
	}{
		"closes":                    {nil, "EOF"},
		"huge length":               {[]byte("R\x7f\xff\xff\xff"), "announces a length"},
		"negative length":           {[]byte("R\xff\xff\xff\xff"), "announces a length"},
		"short length":              {[]byte("R\x00\x00\x00\x02"), "announces a length"},
		"no code":                   {wire.AppendFrame(nil, 'R', nil), "malformed"},
		"unknown method":            {wire.AppendFrame(nil, 'R', []byte{0, 0, 0, 7}), "method 7"},
		"clear text":                {wiretest.AppendAuthCleartext(nil), "in clear text without TLS"},
		"no mechanism":              {wire.AppendAuthSASL(nil), "none of the SASL mechanisms"},
		"plus without TLS":          {wire.AppendAuthSASL(nil, "SCRAM-SHA-256-PLUS"), "none of the SASL mechanisms"},
		"endless mechanism":         {wire.AppendFrame(nil, 'R', []byte("\x00\x00\x00\x0aAAAA")), "malformed"},
		"ok in mid-exchange":        {join(wire.AppendAuthSASL(nil, "SCRAM-SHA-256"), ok, wire.AppendReadyForQuery(nil, 'I')), "unexpected authentication request 0"},
		"iterations":                {join(wire.AppendAuthSASL(nil, "SCRAM-SHA-256"), wire.AppendAuthSASLContinue(nil, []byte("r=x,s=AAAA,i=2147483647"))), "SCRAM"},
		"nonce":                     {join(wire.AppendAuthSASL(nil, "SCRAM-SHA-256"), wire.AppendAuthSASLContinue(nil, []byte("r=x,s=AAAA,i=1"))), "nonce"},
		"two methods":               {join(wire.AppendAuthMD5(nil, [4]byte{}), wire.AppendAuthMD5(nil, [4]byte{})), "after authentication was complete"},
		"row in log-in":             {join(ok, wire.AppendFrame(nil, 'D', []byte{0, 1, 0xff, 0xff, 0xff, 0xf0})), "unexpected message type 'D'"},
		"short key":                 {join(ok, wire.AppendFrame(nil, 'K', []byte{1, 2, 3})), "BackendKeyData"},
		"long key":                  {join(ok, wire.AppendBackendKeyData(nil, 1, make([]byte, 300))), "BackendKeyData"},
		"broken parameter":          {join(ok, wire.AppendFrame(nil, 'S', []byte("abc"))), "ParameterStatus"},
		"broken error":              {wire.AppendFrame(nil, 'E', []byte("Mabc")), "ErrorResponse"},
		"error without fields":      {wire.AppendFrame(nil, 'E', []byte{0}), "error without a message"},
		"in a transaction":          {join(ok, wire.AppendReadyForQuery(nil, 'T')), "transaction status"},
		"newer protocol":            {wire.AppendNegotiate(nil, wire.Version32, nil), "answers protocol 3.0 with 3.2"},
		"endless notices":           {bytes.Repeat(wiretest.AppendNotice(nil, &wire.ServerError{Message: "x"}), 5000), "too much"},
		"endless parameters":        {join(ok, bytes.Repeat(wire.AppendParameterStatus(nil, "x", strings.Repeat("y", 60_000)), 50)), "too much"},
		"ready ahead of ok":         {wire.AppendReadyForQuery(nil, 'I'), "unexpected message type 'Z'"},
		"the start of a real error": {wire.AppendError(nil, wire.NewFatal("57P03", "the database system is starting up"))[:20], "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := dial(t, serve(t, c.says, false))
			require.ErrorContains(t, err, c.err)
			require.NotContains(t, err.Error(), "topsecret")
		})
	}
}

func TestPoliteServer(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte("k"), 32)
	behind := wiretest.AppendNotification(nil, 1, "c", "p")
	conn, err := dial(t, serve(t, join(
		wire.AppendNegotiate(nil, wire.Version30, nil), wiretest.AppendNotice(nil, &wire.ServerError{Message: "hello"}), wire.AppendAuthOK(nil),
		wire.AppendParameterStatus(nil, "a", "b"), wire.AppendBackendKeyData(nil, 77, key), wire.AppendReadyForQuery(nil, 'I'), behind,
	), false))
	require.NoError(t, err)
	require.EqualValues(t, 77, conn.PID)
	require.Equal(t, key, conn.Key)
	require.Equal(t, map[string]string{"a": "b"}, conn.Params)
	rest, err := io.ReadAll(io.MultiReader(bytes.NewReader(conn.Leftover()), conn))
	require.NoError(t, err)
	require.Equal(t, behind, rest, "nothing is lost and nothing comes twice")
}

// TestAnswerToSSLRequest: what follows the answer's one byte is TLS or nothing, and only prefer
// goes on without.
func TestAnswerToSSLRequest(t *testing.T) {
	t.Parallel()
	login := join(wire.AppendAuthOK(nil), wire.AppendReadyForQuery(nil, 'I'))
	for name, c := range map[string]struct {
		mode, says, err string
	}{
		"declined, require":     {"require", "N" + string(login), "does not offer it"},
		"declined, verify-full": {"verify-full", "N" + string(login), "does not offer it"},
		"declined, prefer":      {"prefer", "N" + string(login), ""},
		"an error":              {"require", "E\x00\x00\x00\x10Mlook here\x00\x00", "unexpected answer 'E'"},
		"plain text behind S":   {"require", "S" + string(login), "begin TLS"},
		"silence":               {"require", "", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := serve(t, []byte(c.says), false)
			cfg.TLS = mode(t, c.mode, "")
			conn, err := dial(t, cfg)
			if c.err == "" {
				require.NoError(t, err)
				require.False(t, conn.TLS())
				return
			}
			require.ErrorContains(t, err, c.err)
			require.NotContains(t, err.Error(), "look here")
		})
	}
}

func TestDialIsBounded(t *testing.T) {
	t.Parallel()
	cfg := serve(t, wire.AppendAuthOK(nil), true)
	cfg.ConnectTimeout = 50 * time.Millisecond
	_, err := backend.Dial(context.Background(), cfg)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	cfg.ConnectTimeout = patience
	ctx, cancel := context.WithCancel(context.Background())
	stop := time.AfterFunc(50*time.Millisecond, cancel)
	defer stop.Stop()
	_, err = backend.Dial(ctx, cfg)
	require.ErrorIs(t, err, context.Canceled)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]backend.Config{
		"address is empty": {User: "u"},
		"neither":          {Address: "host", User: "u"},
		"user is empty":    {Address: "h:1"},
		"without a TLS":    {Address: "h:1", User: "u", TLS: tlsconf.Client{Mode: tlsconf.Require}},
	} {
		_, err := backend.Dial(context.Background(), c)
		require.ErrorContains(t, err, want)
	}
}
