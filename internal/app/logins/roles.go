package logins

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/proxy/auth"
)

const (
	// rolesFresh is how long what was read of the source's roles counts: a changed password can be
	// used after that time at the latest, and a flood of logins makes one query a second.
	rolesFresh = time.Second
	// rolesPatience bounds how long a login waits for that query. After it the login uses what was
	// known before.
	rolesPatience = 2 * time.Second
)

// roleCache is what the source stores about its roles for logins: read from it while it is the
// active side, kept on the target for the time after the switch. Safe for concurrent use; no caller
// waits for the source under mu.
type roleCache struct {
	Asking *dbconn.Link // to the source
	Active func() bool  // whether the source is the side to be asked
	log    zerolog.Logger

	turn chan struct{} // held by the one that reads

	mu    sync.Mutex
	at    time.Time // of the last reading, whatever its result
	known map[string]role
	list  []journal.Role // the same as it was read
	kept  []journal.Role // what the target has
}

type role struct {
	secret     auth.Secret
	noLogin    bool
	noConnect  bool // it may not connect to the database that is moved
	validUntil time.Time
}

// on puts the role's limits on a secret.
func (r role) on(s auth.Secret) auth.Secret {
	s = s.ValidUntil(r.validUntil)
	if r.noLogin {
		s = s.NoLogin()
	}
	return s
}

func newRoles(log zerolog.Logger) *roleCache {
	return &roleCache{log: log, turn: make(chan struct{}, 1), known: map[string]role{}, Active: func() bool { return false }}
}

// lookup returns what is known of a role; fresh asks the source first where that was
// not done in the last second.
func (r *roleCache) lookup(ctx context.Context, name string, fresh bool) (role, bool) {
	if fresh && r.Active() {
		ctx, cancel := context.WithTimeout(ctx, rolesPatience)
		if err := r.renew(ctx, rolesFresh); err != nil {
			r.log.Debug().Err(err).Msg("roles of the source not read; those read before count")
		}
		cancel()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x, ok := r.known[name]
	return x, ok
}

// shutOut reports whether the source keeps a role from its database, as it was read last.
func (r *roleCache) shutOut(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[name].noConnect
}

// letIn are the roles that the source lets in, as far as is known what their clients prove
// themselves by.
func (r *roleCache) letIn() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for name, x := range r.known {
		if x.secret.Known() && !x.noLogin && !x.noConnect {
			out = append(out, name)
		}
	}
	return out
}

// renew reads the roles of the source unless that was done within age.
func (r *roleCache) renew(ctx context.Context, age time.Duration) error {
	if r.Asking == nil || r.young(age) {
		return nil
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.young(age) { // someone else has read them
		return nil
	}
	var list []journal.Role
	readable := false
	err := r.Asking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		list, readable, err = journal.ReadRoles(ctx, conn)
		return err
	})
	if err != nil {
		r.mu.Lock()
		r.at = time.Now() // the next login does not wait for it again at once
		r.mu.Unlock()
		return err
	}
	if r.take(list) {
		r.log.Info().Int("roles", len(list)).Bool("passwords", readable).Msg("roles of the source read")
	}
	return nil
}

func (r *roleCache) young(age time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.at.IsZero() && time.Since(r.at) < age
}

// take puts what was read, or was kept, in force. It reports whether it is the first.
func (r *roleCache) take(list []journal.Role) bool {
	known := make(map[string]role, len(list))
	var odd []string
	for _, x := range list {
		secret, err := auth.ParseStored(x.Secret)
		if err != nil {
			odd = append(odd, x.Name)
		}
		known[x.Name] = role{secret: secret, noLogin: !x.CanLogin, noConnect: !x.Connect, validUntil: x.ValidUntil}
	}
	r.mu.Lock()
	first := r.at.IsZero()
	r.at, r.known, r.list = time.Now(), known, list
	r.mu.Unlock()
	if first && len(odd) > 0 {
		r.log.Warn().Strs("roles", odd).Msg("stored passwords of these roles cannot be used; add the roles to the users file")
	}
	return first
}

// save keeps on the target what was read last, if that is not what it has.
func (r *roleCache) save(ctx context.Context, target *pgx.Conn) error {
	r.mu.Lock()
	list, kept := r.list, r.kept
	r.mu.Unlock()
	if slices.Equal(list, kept) {
		return nil
	}
	if err := journal.SaveRoles(ctx, target, list); err != nil {
		return err
	}
	r.mu.Lock()
	r.kept = list
	r.mu.Unlock()
	return nil
}

// load takes what an earlier start kept.
func (r *roleCache) load(ctx context.Context, target *pgx.Conn) error {
	list, err := journal.LoadRoles(ctx, target)
	if err != nil {
		return err
	}
	r.take(list)
	r.mu.Lock()
	r.kept = list
	r.mu.Unlock()
	return nil
}
