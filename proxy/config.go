package proxy

import (
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
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// Names of the two endpoints.
const (
	Source = "source"
	Target = "target"
)

// Bounds, where the configuration says nothing else.
const (
	// DefaultLoginTimeout bounds a stranger from accept to a proved identity.
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

	// probeTimeout bounds the silence of a server in a capture. One takes
	// milliseconds; a server that says nothing for so long is cancelled, and given as
	// long again to say so.
	probeTimeout = 5 * time.Second
	// probeLimit bounds a capture as a whole: thousands of statements at the round
	// trip of another continent, or a connection that is nearly dead.
	probeLimit = time.Minute
	// replayTimeout bounds the replay of one session: hundreds of statements at
	// the round trip of another continent.
	replayTimeout = 15 * time.Second
	// stageTimeout bounds how long staging waits for one session's boundary; a
	// session in a long transaction is staged in the pause.
	stageTimeout = 2 * time.Second
	// goodbyeTimeout bounds the last words to a client and the wait for a server's.
	goodbyeTimeout = 2 * time.Second
	// lingerTimeout and maxLinger bound, in time and in bytes, what is still taken
	// from a client that was told good-bye.
	lingerTimeout = 500 * time.Millisecond
	maxLinger     = 1 << 20
	// settleTimeout bounds the wait for held clients to be told on after a switch,
	// so that the report has their times.
	settleTimeout = time.Second
)

// Endpoint is one of the two sides as the proxy needs it. Its functions are
// called concurrently.
type Endpoint struct {
	Name string         // Source or Target
	Dial backend.Config // address and TLS; the rest is filled in for each session
	// Credentials returns the name and password with which a client's role logs in
	// on this side; ok is false for a role that is not known there.
	Credentials func(user string) (name, password string, ok bool)
	// Role translates the name of a role of the clients' side to the one that it is on this side, whether or
	// not it can log in; nil goes by the names of Credentials.
	Role func(name string) string
	// ShutOut tells of a client's role that may not connect to the database, where the
	// side's own servers need not know; nil for none.
	ShutOut func(user string) bool
	// Proofs says that this side's servers keep the very secrets that Auth has for users who are not among Credentials: what a
	// client proves itself by logs it in there, under its own name.
	Proofs bool
	// Database translates the name that a client asks for, "" to refuse it; nil
	// keeps it.
	Database func(name string) string
	// Pins returns settings that sessions of this side get at start-up, behind the
	// client's own; nil for none. user and database are the client's names.
	Pins func(ctx context.Context, user, database string) ([]wire.Param, error)
}

func (e *Endpoint) validate() error {
	switch {
	case e.Dial.Address == "":
		return fmt.Errorf("endpoint %s has no address", e.Name)
	case e.Credentials == nil:
		return fmt.Errorf("endpoint %s has no credentials", e.Name)
	}
	return nil
}

func (e *Endpoint) database(name string) string {
	if e.Database == nil {
		return name
	}
	return e.Database(name)
}

// Config says what a proxy serves.
type Config struct {
	Listen   string       // host:port to listen on; unused when Listener is set
	Listener net.Listener // closed by Run
	TLS      *tlsconf.Server
	Auth     auth.Store
	Source   Endpoint
	Target   Endpoint

	Active string // endpoint that is active at the start; Source when empty
	Epoch  int64  // epoch that made it active
	Closed bool   // begin with the gate closed, until Resume or Switch

	// TrackSettings are custom settings that every session is asked for. Not nil, it
	// is the operator's word that whatever name a statement or a function computes is
	// one of these; then sessions that compute names move (amber). Nil, they do not.
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
	Types TypeStore

	Pumps bool // serve every session by goroutines of its own, and none by the engine

	LoginTimeout time.Duration // DefaultLoginTimeout when 0
	HoldLimit    time.Duration // DefaultHoldLimit when 0; longer, and a held client gets 57P03
	// ReviveTimeout bounds how long a client waits for a new server in the place of one
	// that went away while idle behind the switch; DefaultReviveTimeout when 0.
	ReviveTimeout time.Duration
	// ShutdownTimeout bounds how long open transactions may take to end when Run's context
	// does; DefaultShutdownTimeout when 0.
	ShutdownTimeout time.Duration
	MaxDials        int // DefaultMaxDials when 0
	MaxCaptures     int // DefaultMaxCaptures when 0
	MaxLogins       int // DefaultMaxLogins when 0
	// MaxLoginsPerAddress is DefaultMaxLoginsPerAddress when 0, or MaxLogins where that is less.
	MaxLoginsPerAddress int
	// RequireCertificate lets nobody in without a certificate of TLS's authority for clients.
	RequireCertificate bool

	Log     zerolog.Logger
	Metrics prometheus.Registerer // may be nil
}

// Validate fills in defaults and refuses what cannot work.
func (c *Config) Validate() error {
	c.Source.Name, c.Target.Name = Source, Target
	if c.Active == "" {
		c.Active = Source
	}
	if c.Types == nil {
		c.Types = memoryTypes{}
	}
	for d, v := range map[*time.Duration]time.Duration{&c.LoginTimeout: DefaultLoginTimeout, &c.HoldLimit: DefaultHoldLimit,
		&c.ReviveTimeout: DefaultReviveTimeout, &c.ShutdownTimeout: DefaultShutdownTimeout} {
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
		return errors.New("proxy: nobody to ask for the secrets of users")
	case slices.ContainsFunc(c.TrackSettings, func(name string) bool {
		return !strings.Contains(name, ".") || strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf || r < ' ' })
	}):
		return errors.New("proxy: a setting to track has a name without a dot, or one that is not plain ASCII")
	case c.Active != Source && c.Active != Target:
		return fmt.Errorf("proxy: active endpoint %q is neither %s nor %s", c.Active, Source, Target)
	}
	return errors.Join(c.Source.validate(), c.Target.validate())
}

// endpoint returns the endpoint of that name.
func (c *Config) endpoint(name string) (*Endpoint, error) {
	switch name {
	case Source:
		return &c.Source, nil
	case Target:
		return &c.Target, nil
	}
	return nil, fmt.Errorf("endpoint %q is neither %s nor %s", name, Source, Target)
}
