package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/pg"
	"crossfade/proxy"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// users are the roles that may log in at the proxy, and what the target's
// servers are told for each. The users file has the say over the role of --source,
// and both over what the source has on its roles. It is the proxy's auth.Store.
type users struct {
	cfg   Config
	file  atomic.Pointer[auth.Users] // the users file and the role of --source
	roles *roles

	mu   sync.Mutex
	pins map[string]Pins // by the source's role
}

// loadUsers reads the users file and adds the role of --source.
func loadUsers(cfg Config, log zerolog.Logger) (*users, error) {
	u := &users{cfg: cfg, pins: map[string]Pins{}, roles: newRoles(log)}
	if _, err := u.read(); err != nil {
		return nil, usage(err)
	}
	if cfg.ClientAuth != clientAuthTrust && cfg.ClientAuth != clientAuthCert && cfg.Source.Password() == "" {
		return nil, usage(fmt.Errorf("--source has no password, so clients that log in as %s cannot prove who they are: give the password, or --client-auth=trust", cfg.Source.User()))
	}
	return u, nil
}

// read puts the users file as it is now in force, and returns how many users it
// has. One that cannot be used leaves in force what was.
func (u *users) read() (int, error) {
	main := auth.User{Name: u.cfg.Source.User(), TargetName: u.cfg.Target.User(), TargetPassword: u.cfg.Target.Password()}
	switch {
	case u.cfg.ClientAuth == clientAuthTrust:
		main.Secret = auth.Trust()
	case u.cfg.Source.Password() != "":
		main.Secret = auth.Plain(u.cfg.Source.Password())
	}
	file := auth.NewUsers()
	if u.cfg.Users != "" {
		var err error
		if file, err = auth.ReadUsers(u.cfg.Users); err != nil {
			return 0, err
		}
	}
	n := len(file.Names())
	u.file.Store(file.With(main))
	return n, nil
}

// The ways in which clients prove who they are.
const (
	clientAuthTrust = "trust"
	clientAuthCert  = "cert" // by a certificate, and not otherwise
)

// Secret implements auth.Store. The source is asked only where the users file has
// nothing to check the user with: what it has needs no network.
func (u *users) Secret(ctx context.Context, user string) (auth.Secret, bool, error) {
	secret, ok, err := u.file.Load().Secret(ctx, user)
	if err != nil {
		return auth.Secret{}, false, err
	}
	r, there := u.roles.lookup(ctx, user, !secret.Known())
	if !there {
		return secret, ok, nil
	}
	if !secret.Known() {
		secret = r.secret
	}
	return r.on(secret), true, nil
}

// pin reads from the source what its roles need on the target: what logins go by,
// and the effective settings of each, checked with the target. It is kept there.
func (u *users) pin(ctx context.Context, target *pgx.Conn, log zerolog.Logger) error {
	if err := u.roles.renew(ctx, 0); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := u.roles.save(ctx, target); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return u.pinEach(ctx, target, u.file.Load().Names(), log)
}

// pinMissing does it for users that have come with a new users file.
func (u *users) pinMissing(ctx context.Context, target *pgx.Conn, log zerolog.Logger) error {
	u.mu.Lock()
	names := slices.DeleteFunc(u.file.Load().Names(), func(name string) bool { return u.pins[name] != nil })
	u.mu.Unlock()
	return u.pinEach(ctx, target, names, log)
}

func (u *users) pinEach(ctx context.Context, target *pgx.Conn, names []string, log zerolog.Logger) error {
	for _, name := range names {
		pins, unknown, err := u.readPins(ctx, name)
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if len(unknown) > 0 {
			log.Warn().Strs("settings", unknown).Str("user", name).
				Msg("what the source has for these settings cannot be found out without the user's password; the target's own values count")
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

// readPins reads the settings of one role: in a session of its own where its
// password is known, else from the catalog.
func (u *users) readPins(ctx context.Context, name string) (pins Pins, unknown []string, err error) {
	if su, sp, ok := u.sourceCredentials(name); ok {
		pins, err = readPins(ctx, u.cfg.Source.WithUser(su, sp))
		if name == u.cfg.Source.User() || !pg.IsCode(err, pg.CodeInvalidPassword, pg.CodeInvalidAuthorization) {
			return pins, nil, err
		}
		// The users file is wrong about one role, or the source does not let it in: that is
		// told to whoever logs in, and no reason to move nobody.
	}
	return readRolePins(ctx, u.cfg.Source, name)
}

func (u *users) set(name string, p Pins) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pins[name] = p
}

// load takes the pins that an earlier start kept.
func (u *users) load(ctx context.Context, target *pgx.Conn) error {
	if err := u.roles.load(ctx, target); err != nil {
		return err
	}
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
		Dial:        dialed(u.cfg.Source),
		Credentials: u.sourceCredentials,
		Proofs:      true, // what Secret takes from the source
		Database:    u.served(u.cfg.Source.Database()),
		Pins:        func(context.Context, string, string) ([]wire.Param, error) { return nil, nil },
	}
	target = proxy.Endpoint{
		Name:        "target",
		Dial:        dialed(u.cfg.Target),
		Credentials: func(user string) (string, string, bool) { return u.file.Load().Target(user) },
		Database:    u.served(u.cfg.Target.Database()),
		Pins:        u.targetPins,
	}
	return source, target
}

// dialed is how the proxy dials a side: by all that its connection string says of it.
func dialed(d pg.DSN) backend.Config {
	cfg := d.Config()
	t := tlsconf.FromPgx(cfg)
	if t.Mode == tlsconf.VerifyCA && d.SSLMode() == tlsconf.VerifyFull.String() { // both are verified by what the driver calls behind the handshake
		t.Mode = tlsconf.VerifyFull
	}
	return backend.Config{Address: d.Address(), TLS: t, ConnectTimeout: cfg.ConnectTimeout, Dialer: d.Dialer(), AllowsAuth: d.AllowsAuth}
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
	return u.file.Load().Source(user)
}
