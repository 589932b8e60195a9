package netfault_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/netfault"
)

func frame(typ byte, body string) string {
	b := []byte{typ, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[1:], uint32(len(body)+4))
	return string(b) + body
}

func packet(code uint32, body string) string {
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b, uint32(len(body)+8))
	binary.BigEndian.PutUint32(b[4:], code)
	return string(b) + body
}

// pair is a client behind a relay and the server's end of its link.
func pair(t *testing.T) (*netfault.Relay, net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	r := start(t, ln.Addr().String())
	c := dial(t, r)
	s, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	require.NoError(t, s.SetDeadline(time.Now().Add(patience)))
	return r, c, s
}

func TestTrapCutsAtTheNthFrame(t *testing.T) {
	t.Parallel()
	startup := packet(196608, "user\x00u\x00\x00")
	query := frame('Q', "select 1\x00")
	for name, tc := range map[string]struct {
		trap netfault.Trap
		want string // what the server still gets of startup and three queries
	}{
		"before the first":  {netfault.Trap{Type: 'Q'}, startup},
		"before the second": {netfault.Trap{Type: 'Q', N: 2}, startup + query},
		"within the second": {netfault.Trap{Type: 'Q', N: 2, Within: 3}, startup + query + query[:3]},
		"in its body":       {netfault.Trap{Type: 'Q', N: 2, Within: 7}, startup + query + query[:7]},
		"after the second":  {netfault.Trap{Type: 'Q', N: 2, Within: netfault.WholeFrame}, startup + query + query},
		"in the start-up":   {netfault.Trap{Type: 0, Within: 6}, startup[:6]},
	} {
		for _, chunk := range []int{1, 4, 1 << 20} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r, c, s := pair(t)
				tc.trap.Mode = netfault.Finish
				fired := r.Arm(tc.trap)
				go func() {
					all := startup + query + query + query
					for len(all) > 0 {
						n := min(chunk, len(all))
						if _, err := c.Write([]byte(all[:n])); err != nil {
							return
						}
						all = all[n:]
					}
				}()
				got, _ := io.ReadAll(s)
				require.Equal(t, tc.want, string(got))
				select {
				case <-fired:
				case <-time.After(patience):
					t.Fatal("the trap did not say that it sprang")
				}
			})
		}
	}
}

func TestTrapSeesFramesAfterARefusedEncryption(t *testing.T) {
	t.Parallel()
	r, c, s := pair(t)
	fired := r.Arm(netfault.Trap{Direction: netfault.ToClient, Type: 'Z', Within: netfault.WholeFrame})
	send := func(conn, peer net.Conn, msg string) {
		t.Helper()
		_, err := conn.Write([]byte(msg))
		require.NoError(t, err)
		buf := make([]byte, len(msg))
		_, err = io.ReadFull(peer, buf)
		require.NoError(t, err)
		require.Equal(t, msg, string(buf))
	}
	send(c, s, packet(80877103, ""))
	send(s, c, "N")
	send(c, s, packet(196608, "user\x00u\x00\x00"))
	select {
	case <-fired:
		t.Fatal("sprung too early")
	default:
	}
	send(s, c, frame('R', "\x00\x00\x00\x00")+frame('Z', "I"))
	<-fired
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestTrapIsSilentOnAnEncryptedLink(t *testing.T) {
	t.Parallel()
	r, c, s := pair(t)
	fired := r.Arm(netfault.Trap{Type: 'Q'})
	_, err := c.Write([]byte(packet(80877103, "")))
	require.NoError(t, err)
	_, err = io.ReadFull(s, make([]byte, 8))
	require.NoError(t, err)
	_, err = s.Write([]byte("S"))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	require.NoError(t, err)
	msg := frame('Q', "these bytes stand for ciphertext")
	_, err = c.Write([]byte(msg))
	require.NoError(t, err)
	_, err = io.ReadFull(s, make([]byte, len(msg)))
	require.NoError(t, err)
	select {
	case <-fired:
		t.Fatal("sprung on ciphertext")
	default:
	}
}
