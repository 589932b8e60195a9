package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"crossfade/proxy/auth"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/tlsconf"
)

// Bounds, where the configuration says nothing else.
const (
	// DefaultLoginTimeout bounds a login from accept to a proved identity.
	DefaultLoginTimeout = 15 * time.Second
	// DefaultHoldLimit is below the 60 s after which HTTP servers and pools give up.
	DefaultHoldLimit = 30 * time.Second
	// DefaultMaxDials is what a Neon endpoint takes at once without refusing.
	DefaultMaxDials = 50
	// DefaultMaxCaptures keeps probes from competing with the application.
	DefaultMaxCaptures = 50
	// DefaultMaxLogins bounds the connections whose client is not known yet: each
	// costs some 20 KiB and a file descriptor.
	DefaultMaxLogins = 2048
	// DefaultMaxLoginsPerAddress leaves room for others, and is more than an
	// application's host opens at once.
	DefaultMaxLoginsPerAddress = 1024
)

// Limits bound what a proxy waits for and how much it does at once.
type Limits struct {
	LoginTimeout time.Duration // DefaultLoginTimeout when 0
	HoldLimit    time.Duration // DefaultHoldLimit when 0; longer, and a held client gets 57P03
	// ReviveTimeout bounds how long a client waits for a new server in the place of one that went
	// away while idle after the switch; DefaultReviveTimeout when 0.
	ReviveTimeout time.Duration
	// ShutdownTimeout bounds how long open transactions may take to end when Run's context
	// does; DefaultShutdownTimeout when 0.
	ShutdownTimeout time.Duration
	MaxDials        int // DefaultMaxDials when 0
	MaxCaptures     int // DefaultMaxCaptures when 0
	MaxLogins       int // DefaultMaxLogins when 0
	// MaxLoginsPerAddress is DefaultMaxLoginsPerAddress when 0, or MaxLogins where that is less.
	MaxLoginsPerAddress int
}

// Config says what a proxy serves.
type Config struct {
	Listen   string       // host:port to listen on; unused when Listener is set
	Listener net.Listener // closed by Run
	TLS      *tlsconf.Server
	Auth     auth.Store
	Source   side.Endpoint
	Target   side.Endpoint

	Active string // endpoint that is active at the start; Source when empty
	Epoch  int64  // epoch that made it active
	Closed bool   // begin with the gate closed, until Resume or Switch

	// TrackSettings are custom settings that every session is asked for. If not nil, the operator
	// guarantees that every name that a statement or a function computes is one of these; then
	// sessions that compute names move (amber). If nil, they do not.
	TrackSettings []string

	// Explain, where it is set, says what server processes of the source do, by their
	// pg_backend_pid(): transactions, statements without values, and locks that they wait
	// for. An error of a drain adds that to the sessions that it names. It is called with
	// the gate closed, with a bound, and only while the source is active.
	Explain func(ctx context.Context, pids []int32) map[int32]string

	// User and Database, where they are set, are a role and a database, by the clients'
	// names, whose types are compared though no session may be there.
	User, Database string
	// Types keeps the numbers of users' types that clients know. Nil: they are known
	// for the life of the proxy.
	Types side.TypeStore

	Pumps bool // serve every session by goroutines of its own, and none by the engine

	Limits

	// RequireCertificate refuses clients without a certificate of TLS's authority for clients.
	RequireCertificate bool

	Log     zerolog.Logger
	Metrics prometheus.Registerer // may be nil
}

// Validate fills in defaults and refuses what cannot work.
func (c *Config) Validate() error {
	c.Source.Name, c.Target.Name = side.Source, side.Target
	c.Active = cmp.Or(c.Active, side.Source)
	for d, v := range map[*time.Duration]time.Duration{&c.LoginTimeout: DefaultLoginTimeout, &c.HoldLimit: DefaultHoldLimit,
		&c.ReviveTimeout: session.DefaultReviveTimeout, &c.ShutdownTimeout: DefaultShutdownTimeout} {
		if *d == 0 {
			*d = v
		}
		if *d < 0 {
			return errors.New("proxy: a time limit is negative")
		}
	}
	for n, v := range map[*int]int{&c.MaxDials: DefaultMaxDials, &c.MaxCaptures: DefaultMaxCaptures, &c.MaxLogins: DefaultMaxLogins, &c.MaxLoginsPerAddress: DefaultMaxLoginsPerAddress} {
		if *n == 0 {
			*n = v
		}
		if *n < 0 {
			return errors.New("proxy: a number of connections is negative")
		}
	}
	c.MaxLoginsPerAddress = min(c.MaxLoginsPerAddress, c.MaxLogins)
	switch {
	case c.RequireCertificate && c.TLS == nil:
		return errors.New("proxy: clients cannot show a certificate without TLS")
	case c.Listen == "" && c.Listener == nil:
		return errors.New("proxy: no address to listen on")
	case c.Auth == nil:
		return errors.New("proxy: no store for the secrets of users")
	case slices.ContainsFunc(c.TrackSettings, func(name string) bool {
		return !strings.Contains(name, ".") || strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf || r < ' ' })
	}):
		return errors.New("proxy: a setting to track has a name without a dot, or one that is not plain ASCII")
	case c.Active != side.Source && c.Active != side.Target:
		return fmt.Errorf("proxy: active endpoint %q is neither %s nor %s", c.Active, side.Source, side.Target)
	}
	return errors.Join(c.Source.Validate(), c.Target.Validate())
}
