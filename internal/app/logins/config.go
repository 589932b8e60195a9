package logins

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/loginrole"
	"crossfade/internal/app/control"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/roles"
)

// NoRole in the place of a role of the target says that a role of the source is not to
// log in there.
const NoRole = "-"

// Config says who may log in, and as whom.
type Config struct {
	Source, Target pg.DSN
	Users          string            // path of the users file, "" for none
	MapRole        map[string]string // roles of the target for roles of the source; NoRole for none
	AcceptRights   []string          // roles of the source that may have other rights on the target
	NoOwner        bool              // owners are not taken along
	ClientAuth     string            // ClientAuthCert, ClientAuthTrust, or a password for everything else
	TLSClientCA    string            // who signs clients' certificates, "" to ask for none
}

// SchemaRoles are the roles of the source that others replace on the target, in the schema as well
// as for logins.
func (c Config) SchemaRoles() map[string]string {
	out := map[string]string{}
	for from, to := range c.MapRole {
		if to != NoRole {
			out[from] = to
		}
	}
	return out
}

// ValidateMapRole says what is wrong with MapRole.
func (c Config) ValidateMapRole() error {
	var errs []error
	for from, to := range c.MapRole {
		if from == "" || to == "" {
			errs = append(errs, fmt.Errorf("--map-role %s=%s: write a role of the source and one of the target, such as app=neondb_owner, or app=%s for a role that is not to log in at the target", from, to, NoRole))
		}
	}
	return errors.Join(errs...)
}

// UnknownRoles names the roles of the flags that are none of the source's: what was meant for
// another one would not be done for it.
func (c Config) UnknownRoles(source []journal.Role) error {
	known := lists.SetOf(source, func(r journal.Role) string { return r.Name })
	var errs []error
	for _, from := range slices.Sorted(maps.Keys(c.MapRole)) {
		if !known[from] {
			errs = append(errs, fmt.Errorf("--map-role %s=%s: the source has no role %s: write one that it has, as SELECT rolname FROM pg_roles on the source names them", from, c.MapRole[from], pg.QuoteIdent(from)))
		}
	}
	for _, role := range c.AcceptRights {
		if !known[role] {
			errs = append(errs, fmt.Errorf("--accept-rights %s: the source has no role %s: write one that it has, as SELECT rolname FROM pg_roles on the source names them", role, pg.QuoteIdent(role)))
		}
	}
	return errors.Join(errs...)
}

// Ask makes the roles that the source got meanwhile, has those that the run made follow the
// source's, and names who could not log in after the switch or would be someone else: a watcher's
// question.
func (u *Users) Ask(ctx context.Context, source, target *pgx.Conn) ([]watch.Notice, error) {
	if err := u.Logins.Ensure(ctx, source, target); err != nil {
		return nil, err
	}
	if err := u.Roles.renew(ctx, rolesFresh); err != nil {
		return nil, err
	}
	found, err := loginrole.Compare(ctx, source, target, u.Survey(), roles.PlatformRole)
	if err != nil {
		return nil, err
	}
	var out []watch.Notice
	for _, f := range found {
		if f.Severity == answer.Info {
			continue
		}
		out = append(out, watch.Notice{Blocker: control.Blocker{Code: f.Code, Detail: "role " + f.Object + " " + f.Detail, Remedy: f.Do()}, Warns: f.Severity != answer.Blocker})
	}
	return out, nil
}
