package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
)

// Dialer returns what opens a socket with the keepalives and time limits that the connection
// string asks for, nil where it asks for none.
func (d DSN) Dialer() *net.Dialer { return d.dialer }

// dialer reads libpq's keepalives, keepalives_idle, keepalives_interval (seconds), keepalives_count
// and tcp_user_timeout (milliseconds). As there, what is not above 0 leaves the default.
func (s *settings) dialer() *net.Dialer {
	number := func(name string) (int, bool) {
		v, given := s.of[name]
		n, err := strconv.Atoi(strings.TrimSpace(v.value))
		return n, given && err == nil
	}
	on, asked := number("keepalives")
	idle, idleAsked := number("keepalives_idle")
	interval, intervalAsked := number("keepalives_interval")
	count, countAsked := number("keepalives_count")
	limit, limitAsked := number("tcp_user_timeout")
	if !asked && !idleAsked && !intervalAsked && !countAsked && !limitAsked {
		return nil
	}
	d := &net.Dialer{}
	if asked && on == 0 {
		d.KeepAlive = -1
	} else {
		d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Duration(max(0, idle)) * time.Second,
			Interval: time.Duration(max(0, interval)) * time.Second, Count: max(0, count)}
	}
	if limitAsked && limit > 0 {
		d.Control = userTimeout(limit)
	}
	return d
}

type place struct {
	host string
	port uint16
}

// placesOf lists where cfg connects to. A host has a second entry where TLS may be tried and left.
func placesOf(cfg *pgx.ConnConfig) []place {
	list := []place{{cfg.Host, cfg.Port}}
	for _, f := range cfg.Fallbacks {
		list = lists.AddNew(list, place{f.Host, f.Port})
	}
	return list
}

// places makes cfg connect to the addresses of hostaddr, one for each of its hosts, and returns the
// first. The parameter of libpq says where to connect, while host still says whose certificate is
// expected and which name is sent along; the driver does not know it.
func places(cfg *pgx.ConnConfig, hostaddr string) (string, error) {
	list := placesOf(cfg)
	addrs := strings.Split(hostaddr, ",")
	if len(addrs) != len(list) {
		return "", fmt.Errorf("could not match %d host names to %d hostaddr values", len(list), len(addrs))
	}
	known := map[string][]string{}
	for i, a := range addrs {
		if a == "" {
			continue // looked up by name
		}
		if _, err := netip.ParseAddr(a); err != nil {
			return "", errors.New("hostaddr is no numeric address")
		}
		known[list[i].host] = append(known[list[i].host], a)
	}
	lookup := cfg.LookupFunc
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if found := known[host]; len(found) > 0 {
			return found, nil
		}
		return lookup(ctx, host)
	}
	return addrs[0], nil
}

// Quiet reports that nothing has arrived on a connection: no message, and no end. It takes no round
// trip and no byte. Below TLS it checks the socket.
func Quiet(conn net.Conn) bool {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	empty := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		empty = err == syscall.EAGAIN
	})
	return err == nil && empty
}
