package pg

import (
	"net"
	"strconv"
	"strings"
	"time"
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
