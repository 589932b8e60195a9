package logins

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/proxy"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// Users are the roles that may log in at the proxy, and what the target's servers are told for
// each. The users file takes precedence over the role of --source, and both over what the source
// stores about its roles. It is the proxy's auth.Store.
type Users struct {
	cfg    Config
	file   atomic.Pointer[auth.Users] // the users file and the role of --source
	Roles  *roleCache
	Logins *logins

	mu   sync.Mutex
	pins map[string]Pins // by the source's role
}

// Load reads the users file and adds the role of --source.
func Load(cfg Config, log zerolog.Logger) (*Users, error) {
	logins, err := newLogins(cfg, log)
	if err != nil {
		return nil, err
	}
	u := &Users{cfg: cfg, pins: map[string]Pins{}, Roles: newRoles(log), Logins: logins}
	logins.plain = func(role string) (string, bool) {
		_, password, ok := u.sourceCredentials(role)
		return password, ok && password != ""
	}
	logins.others = func() []string { return slices.Sorted(maps.Values(u.mapped())) }
	if _, err := u.Read(); err != nil {
		return nil, exit.Usage(err)
	}
	if cfg.ClientAuth != clientAuthTrust && cfg.ClientAuth != ClientAuthCert && cfg.Source.Password() == "" {
		return nil, exit.Usage(fmt.Errorf("--source has no password, so clients that log in as %s cannot prove who they are: give the password, or --client-auth=trust", cfg.Source.User()))
	}
	return u, nil
}

// Surveyed are the users as a start of a run would have them, without making anything.
func Surveyed(ctx context.Context, source, target *pgx.Conn, cfg Config) (*Users, error) {
	if cfg.ClientAuth == "" && cfg.Source.Password() == "" {
		cfg.ClientAuth = clientAuthTrust // how clients prove themselves is no question of a check
	}
	u, err := Load(cfg, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	list, _, err := journal.ReadRoles(ctx, source)
	if err != nil {
		return nil, err
	}
	if err := cfg.UnknownRoles(list); err != nil {
		return nil, exit.Usage(err)
	}
	u.Roles.take(list)
	return u, u.Logins.TryThere(ctx, source, target)
}

// Read puts the present users file in force, and returns how many users it has. If it cannot be
// used the one before remains in force.
func (u *Users) Read() (int, error) {
	main := auth.User{Name: u.cfg.Source.User()}
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
	ClientAuthCert  = "cert" // by a certificate, and not otherwise
)

// Secret implements auth.Store. The source is asked only where the users file has
// nothing to check the user with: what it has needs no network.
func (u *Users) Secret(ctx context.Context, user string) (auth.Secret, bool, error) {
	secret, ok, err := u.file.Load().Secret(ctx, user)
	if err != nil {
		return auth.Secret{}, false, err
	}
	r, there := u.Roles.lookup(ctx, user, !secret.Known())
	if !there {
		return secret, ok, nil
	}
	if !secret.Known() {
		secret = r.secret
	}
	return r.on(secret), true, nil
}

// Pin reads from the source what its roles need on the target: what logins go by,
// and the effective settings of each, checked with the target. It is kept there.
func (u *Users) Pin(ctx context.Context, target *pgx.Conn, log zerolog.Logger) error {
	if err := u.Roles.renew(ctx, 0); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := u.Roles.save(ctx, target); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return u.pinEach(ctx, target, u.names(), log)
}

// names are the roles that are known to be let in.
func (u *Users) names() []string {
	names := append(u.file.Load().Names(), u.Roles.letIn()...)
	slices.Sort(names)
	return slices.Compact(names)
}

// PinMissing does it for users that have come with a new users file.
func (u *Users) PinMissing(ctx context.Context, target *pgx.Conn, log zerolog.Logger) error {
	known := u.names()
	u.mu.Lock()
	names := slices.DeleteFunc(known, func(name string) bool { return u.pins[name] != nil })
	u.mu.Unlock()
	return u.pinEach(ctx, target, names, log)
}

func (u *Users) pinEach(ctx context.Context, target *pgx.Conn, names []string, log zerolog.Logger) error {
	if len(names) == 0 {
		return nil
	}
	here, err := plainConnect(ctx, u.cfg.Source)
	if err != nil {
		return u.asKnown(names, fmt.Errorf("source: %w", err), log)
	}
	defer dbconn.CloseNow(here)
	there, err := plainConnect(ctx, u.cfg.Target)
	if err != nil {
		return u.asKnown(names, fmt.Errorf("target: %w", err), log)
	}
	defer dbconn.CloseNow(there)
	judge := &taker{conn: there, known: map[[2]string]bool{}, role: u.targetRole}
	for _, name := range names {
		pins, unknown, err := u.readPins(ctx, here, name)
		if err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if len(unknown) > 0 {
			log.Warn().Strs("settings", unknown).Str("user", name).
				Msg("what the source has for these settings cannot be found out without the user's password; the target's own values count")
		}
		kept, refused, err := judge.acceptable(ctx, pins)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		for _, r := range refused {
			log.Warn().Str("setting", r).Str("user", name).Msg("the target does not take this setting of the source")
		}
		if err := savePins(ctx, target, name, kept); err != nil {
			return err
		}
		u.mu.Lock()
		u.pins[name] = kept
		u.mu.Unlock()
	}
	return nil
}

// asKnown returns nil if the settings of all these roles are known from an earlier reading, and no
// connection for another one is available: the applications use up what there is.
func (u *Users) asKnown(names []string, cause error, log zerolog.Logger) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !pg.IsCode(cause, pg.CodeTooManyConnections) || slices.ContainsFunc(names, func(name string) bool { return u.pins[name] == nil }) {
		return cause
	}
	log.Warn().Err(cause).Msg("no connection is left to read the settings of roles again; the previous values are used")
	return nil
}

// readPins reads the settings of one role: in a session of its own where its
// password is known, else from the catalog.
func (u *Users) readPins(ctx context.Context, here *pgx.Conn, name string) (pins Pins, unknown []string, err error) {
	if su, sp, ok := u.sourceCredentials(name); ok {
		pins, err = readPins(ctx, u.cfg.Source.WithUser(su, sp))
		if err == nil || pg.Code(err) == "" {
			return pins, nil, err
		}
		// The source refuses the role: the users file is wrong about it, it may not connect, one of
		// its settings is refused, or it has as many sessions as it may. Clients that log in are
		// told that; it is no reason to move no session at all.
	}
	return readRolePins(ctx, here, name)
}

// Load takes the pins that an earlier start kept.
func (u *Users) Load(ctx context.Context, target *pgx.Conn) error {
	if err := u.Roles.load(ctx, target); err != nil {
		return err
	}
	if err := u.Logins.Load(ctx, target); err != nil {
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
func (u *Users) targetPins(_ context.Context, user, _ string) ([]wire.Param, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return lists.Map(slices.Sorted(maps.Keys(u.pins[user])), func(name string) wire.Param { return wire.Param{Name: name, Value: u.pins[user][name]} }), nil
}

// mapped are the roles of the target that the users file maps users to, by user.
func (u *Users) mapped() map[string]string {
	mapped, file := map[string]string{}, u.file.Load()
	for _, name := range file.Names() {
		if to, _, ok := file.Mapped(name); ok {
			mapped[name] = to
		}
	}
	return mapped
}

// Survey says who logs in as whom, for the comparison of both sides.
func (u *Users) Survey() inquiry.Logins {
	mapped := u.mapped()
	maps.Copy(mapped, u.cfg.MapRole)
	lets := lists.Set(u.names())
	return inquiry.Logins{TargetRole: u.cfg.Target.User(), Mapped: mapped, Accepted: u.cfg.AcceptRights,
		LetsIn: func(role string) bool { return lets[role] || u.cfg.TLSClientCA != "" },
		Enters: func(role string) bool {
			_, _, ok := u.targetCredentials(role)
			return ok
		},
		Full: u.Logins.full}
}

// Endpoints are the two sides as the proxy dials them.
func (u *Users) Endpoints() (source, target proxy.Endpoint) {
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
		Credentials: u.targetCredentials,
		Role:        u.targetRole,
		ShutOut:     u.shutOut,
		Database:    u.served(u.cfg.Target.Database()),
		Pins:        u.targetPins,
	}
	return source, target
}

// dialed is how the proxy dials a side: by all that its connection string says of it.
func dialed(d pg.DSN) backend.Config {
	cfg := d.Config()
	t := tlsconf.FromPgx(cfg)
	if t.Mode == tlsconf.VerifyCA && d.SSLMode() == tlsconf.VerifyFull.String() { // both are verified by what the driver calls after the handshake
		t.Mode = tlsconf.VerifyFull
	}
	return backend.Config{Address: d.Address(), TLS: t, ConnectTimeout: cfg.ConnectTimeout, Dialer: d.Dialer(), AllowsAuth: d.AllowsAuth}
}

// served translates the name of the one database that is moved. Others of the source's server are
// not served: after a switch there is nothing to lead to.
func (u *Users) served(here string) func(string) string {
	return func(name string) string {
		if name != u.cfg.Source.Database() {
			return ""
		}
		return here
	}
}

// targetCredentials returns what a role of the source logs in with at the target: the
// operator's word, or its own name.
func (u *Users) targetCredentials(user string) (name, password string, ok bool) {
	if to, mapped := u.cfg.MapRole[user]; mapped {
		return u.accountOf(to)
	}
	if name, password, ok := u.file.Load().Mapped(user); ok {
		return name, password, true
	}
	if u.shutOut(user) {
		return "", "", false
	}
	password, ok = u.Logins.credentials(user)
	return user, password, ok
}

// shutOut reports whether a role is kept from the database. While the source is active it decides
// that. After the switch CONNECT on the target decides, since a GRANT there must take effect. But
// the rights of another role say nothing about this one: for roles that have another name on the
// target the source's last answer remains valid, and also for roles for which no credentials are
// known there.
func (u *Users) shutOut(user string) bool {
	if !u.Roles.shutOut(user) {
		return false
	}
	_, known := u.Logins.credentials(user)
	return u.Roles.Active() || u.targetRole(user) != user || !known
}

// targetRole returns the name that a role of the source has on the target, whether or not it logs
// in: groups are mapped too.
func (u *Users) targetRole(name string) string {
	if to, mapped := u.cfg.SchemaRoles()[name]; mapped {
		return to
	}
	if to, _, mapped := u.file.Load().Mapped(name); mapped && u.cfg.MapRole[name] == "" {
		return to
	}
	return name
}

// accountOf returns what logs in as a role of the target that --map-role names.
func (u *Users) accountOf(role string) (name, password string, ok bool) {
	switch role {
	case NoRole:
		return "", "", false
	case u.cfg.Target.User():
		return role, u.cfg.Target.Password(), true
	}
	if password, ok := u.file.Load().TargetPassword(role); ok && !u.Logins.isMade(role) {
		return role, password, true
	}
	password, ok = u.Logins.credentials(role)
	return role, password, ok
}

func (u *Users) sourceCredentials(user string) (string, string, bool) {
	if user == u.cfg.Source.User() {
		return user, u.cfg.Source.Password(), true
	}
	return u.file.Load().Source(user)
}
