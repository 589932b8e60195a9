package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/proxy"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// users are the roles that may log in at the proxy, and what the target's
// servers are told for each. The users file has the say over the role of --source.
type users struct {
	cfg   Config
	known *auth.Users

	mu   sync.Mutex
	pins map[string]Pins // by the source's role
}

// loadUsers reads the users file and adds the role of --source.
func loadUsers(cfg Config) (*users, error) {
	main := auth.User{Name: cfg.Source.User(), Secret: auth.Plain(cfg.Source.Password()),
		TargetName: cfg.Target.User(), TargetPassword: cfg.Target.Password()}
	if cfg.ClientAuth == clientAuthTrust {
		main.Secret = auth.Trust()
	}
	u := &users{cfg: cfg, pins: map[string]Pins{}}
	u.known = auth.NewUsers()
	if cfg.Users != "" {
		file, err := auth.ReadUsers(cfg.Users)
		if err != nil {
			return nil, usage(err)
		}
		u.known = file
	}
	u.known = u.known.With(main)
	if cfg.ClientAuth != clientAuthTrust && cfg.Source.Password() == "" {
		return nil, usage(fmt.Errorf("--source has no password, so clients that log in as %s cannot prove who they are: give the password, or --client-auth=trust", cfg.Source.User()))
	}
	return u, nil
}

// The ways in which clients prove who they are.
const clientAuthTrust = "trust"

// pin reads the source's effective settings for every role, checks them with
// the target and keeps them there.
func (u *users) pin(ctx context.Context, target *pgx.Conn, log zerolog.Logger) error {
	for _, name := range u.known.Names() {
		su, sp, ok := u.known.Source(name)
		if !ok {
			continue
		}
		if su == u.cfg.Source.User() {
			sp = u.cfg.Source.Password()
		}
		pins, err := readPins(ctx, u.cfg.Source.WithUser(su, sp))
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		kept, refused, err := acceptable(ctx, u.cfg.Target, pins)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		for _, r := range refused {
			log.Warn().Str("setting", r).Str("user", name).Msg("the target does not take this setting of the source")
		}
		if err := savePins(ctx, target, name, kept); err != nil {
			return err
		}
		u.set(name, kept)
	}
	return nil
}

func (u *users) set(name string, p Pins) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pins[name] = p
}

// load takes the pins that an earlier start kept.
func (u *users) load(ctx context.Context, target *pgx.Conn) error {
	all, err := loadPins(ctx, target)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(u.pins, all)
	return nil
}

// targetPins are the start-up options of a role's servers on the target.
func (u *users) targetPins(_ context.Context, user, _ string) ([]wire.Param, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []wire.Param
	for _, name := range slices.Sorted(maps.Keys(u.pins[user])) {
		out = append(out, wire.Param{Name: name, Value: u.pins[user][name]})
	}
	return out, nil
}

// endpoints are the two sides as the proxy dials them.
func (u *users) endpoints() (source, target proxy.Endpoint) {
	source = proxy.Endpoint{
		Name:        "source",
		Dial:        backend.Config{Address: u.cfg.Source.Address(), TLS: tlsconf.FromPgx(u.cfg.Source.Config())},
		Credentials: u.sourceCredentials,
		Database:    u.served(u.cfg.Source.Database()),
		Pins:        func(context.Context, string, string) ([]wire.Param, error) { return nil, nil },
	}
	target = proxy.Endpoint{
		Name:        "target",
		Dial:        backend.Config{Address: u.cfg.Target.Address(), TLS: tlsconf.FromPgx(u.cfg.Target.Config())},
		Credentials: u.known.Target,
		Database:    u.served(u.cfg.Target.Database()),
		Pins:        u.targetPins,
	}
	return source, target
}

// served translates the name of the one database that is moved. Others of the
// source's server are not served: behind a switch there is nothing to lead to.
func (u *users) served(here string) func(string) string {
	return func(name string) string {
		if name != u.cfg.Source.Database() {
			return ""
		}
		return here
	}
}

func (u *users) sourceCredentials(user string) (string, string, bool) {
	if user == u.cfg.Source.User() {
		return user, u.cfg.Source.Password(), true
	}
	return u.known.Source(user)
}
