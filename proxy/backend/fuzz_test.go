package backend

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"crossfade/proxy/wire"
)

// told is a connection to a server whose words are known beforehand.
type told struct {
	net.Conn
	says *bytes.Reader
}

func (c told) Read(b []byte) (int, error)       { return c.says.Read(b) }
func (c told) Write(b []byte) (int, error)      { return len(b), nil }
func (c told) SetDeadline(time.Time) error      { return nil }
func (c told) SetReadDeadline(time.Time) error  { return nil }
func (c told) SetWriteDeadline(time.Time) error { return nil }

// FuzzLogin: whatever a server says, a log-in ends, with an error or with what the server has said.
func FuzzLogin(f *testing.F) {
	ready := wire.AppendReadyForQuery(nil, 'I')
	f.Add(bytes.Join([][]byte{wire.AppendAuthOK(nil), wire.AppendParameterStatus(nil, "a", "b"), wire.AppendBackendKeyData(nil, 1, []byte("1234")), ready}, nil))
	f.Add(append(wire.AppendAuthMD5(nil, [4]byte{1, 2, 3, 4}), wire.AppendAuthOK(nil)...))
	f.Add(append(wire.AppendAuthSASL(nil, "SCRAM-SHA-256"), wire.AppendAuthSASLContinue(nil, []byte("r=x,s=AAAA,i=1"))...))
	f.Add(wire.AppendError(nil, wire.NewFatal("57P03", "starting up")))
	f.Add(append(wire.AppendNegotiate(nil, wire.Version30, nil), 'R', 0, 0, 0, 4))
	f.Fuzz(func(t *testing.T, says []byte) {
		cfg := Config{Address: "127.0.0.1:1", User: "u", Password: "topsecret", Database: "d"}
		conn, err := login(context.Background(), told{says: bytes.NewReader(says)}, cfg, false)
		if err != nil {
			if bytes.Contains([]byte(err.Error()), []byte("topsecret")) {
				t.Fatal("the password is in the error")
			}
			return
		}
		if !bytes.Contains(says, ready) {
			t.Fatalf("logged in by %q", says)
		}
		if !bytes.HasSuffix(says, conn.Leftover()) {
			t.Fatalf("%q is left of %q", conn.Leftover(), says)
		}
	})
}
