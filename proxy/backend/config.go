package backend

import (
	"errors"
	"net"
	"time"

	"crossfade/proxy/auth"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

const (
	// DefaultConnectTimeout bounds a log-in from the dial to ReadyForQuery. A suspended Neon
	// compute takes some seconds to wake.
	DefaultConnectTimeout = 15 * time.Second
	// cancelTimeout bounds a cancel request: longer than that, and the statement it was for is
	// gone.
	cancelTimeout = 10 * time.Second
	// keepAlive finds a dead server in the time that libpq's default of the operating systems does
	// not.
	keepAlive = 30 * time.Second

	// maxLoginFrames and maxLoginBytes bound what a server may say in a log-in. PostgreSQL says
	// about 20 messages and 1 KiB.
	maxLoginFrames = 1024
	maxLoginBytes  = 1 << 20
)

// Config says where and as whom to log in. It may be copied; nothing in it is changed.
type Config struct {
	Address        string // host:port, or the path of a Unix socket
	TLS            tlsconf.Client
	User           string
	Password       string     // empty for none
	Proof          auth.Proof // in place of a password: logs in where the server keeps the secret that the client proved itself by
	Database       string     // empty for the user's name
	Params         []wire.Param
	ConnectTimeout time.Duration // from dial to ReadyForQuery; 0 means DefaultConnectTimeout
	Dialer         *net.Dialer   // opens the socket; nil for one with keepalives
	// AllowsAuth reports whether the server may ask for a method of authentication, in libpq's
	// words; nil for any.
	AllowsAuth func(method string) bool
}

// Validate says what is missing.
func (c *Config) Validate() error {
	if c.Address == "" {
		return errors.New("server address is empty")
	}
	if !c.local() {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			return errors.New("server address is neither host:port nor the path of a Unix socket")
		}
	}
	if c.User == "" {
		return errors.New("user is empty")
	}
	if c.TLS.Mode != tlsconf.Disable && c.TLS.Config == nil {
		return errors.New("sslmode " + c.TLS.Mode.String() + " without a TLS configuration")
	}
	return nil
}

func (c *Config) local() bool {
	return len(c.Address) > 0 && (c.Address[0] == '/' || c.Address[0] == '@')
}

func (c *Config) host() string {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return ""
	}
	return host
}

// startup are the parameters of the start-up packet. user and database are ours; protocol
// extensions are not passed on, since we ask for none.
func (c *Config) startup() []wire.Param {
	out := []wire.Param{{Name: "user", Value: c.User}}
	if c.Database != "" {
		out = append(out, wire.Param{Name: "database", Value: c.Database})
	}
	for _, p := range c.Params {
		if p.Name == "user" || p.Name == "database" || len(p.Name) >= 5 && p.Name[:5] == "_pq_." {
			continue
		}
		out = append(out, p)
	}
	return out
}
