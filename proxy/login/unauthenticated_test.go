package login

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func newUnauthenticated(total, perAddress int) *unauthenticated {
	return &unauthenticated{total: total, perAddress: perAddress, crowds: map[netip.Prefix]*crowd{}}
}

func from(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

func TestWhoGivesWay(t *testing.T) {
	t.Parallel()
	var gone []string
	s := newUnauthenticated(4, 3)
	come := func(name, ip string) *place {
		return s.admit(from(ip), func(err error) {
			require.ErrorIs(t, err, errCrowded)
			gone = append(gone, name)
		})
	}
	a1 := come("a1", "192.0.2.1")
	a1.spoke()
	come("a2", "192.0.2.1")
	come("b1", "2001:db8::1")
	come("b2", "2001:db8::2") // of the same /64
	require.Empty(t, gone)
	come("c1", "192.0.2.3") // four are there: of the two crowds of two the one with the older connection that has sent nothing
	require.Equal(t, []string{"a2"}, gone)
	b3 := come("b3", "2001:db8::3")
	require.Equal(t, []string{"a2", "b1"}, gone)
	require.True(t, a1.known())
	require.True(t, a1.known() == false, "once")
	come("c2", "192.0.2.3")
	come("c3", "192.0.2.3")
	come("c4", "192.0.2.3") // three from one address
	require.Equal(t, []string{"a2", "b1", "b2", "c1"}, gone)
	b3.spoke()
	require.True(t, b3.known())
	n, refused := s.Count()
	require.Equal(t, 3, n)
	require.EqualValues(t, 4, refused)
	for range 5 {
		s.Shed()
	}
	wide := newUnauthenticated(10, 2)
	for range 5 {
		wide.admit(from("192.0.2.1"), func(error) {})
	}
	n, refused = wide.Count()
	require.Equal(t, 2, n, "of one address, although there is room")
	require.EqualValues(t, 3, refused)
	n, _ = s.Count()
	require.Zero(t, n)
	require.Empty(t, s.crowds)
	require.False(t, b3.known())
	b3.spoke()
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	for addr, want := range map[net.Addr]string{
		from("192.0.2.1"):        "192.0.2.1/32",
		from("::ffff:192.0.2.1"): "192.0.2.1/32",
		from("2001:db8::7:1"):    "2001:db8::/64",
		&net.UnixAddr{}:          "invalid Prefix",
	} {
		require.Equal(t, want, origin(addr).String())
	}
}
