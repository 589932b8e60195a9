package logins

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight"
	"crossfade/internal/app/control"
	"crossfade/internal/app/watch"
	"crossfade/schema/roles"
)

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
	found, err := preflight.CompareLogins(ctx, source, target, u.Survey(), roles.PlatformRole)
	if err != nil {
		return nil, err
	}
	var out []watch.Notice
	for _, f := range found {
		if f.Severity == preflight.Info {
			continue
		}
		out = append(out, watch.Notice{Blocker: control.Blocker{Code: f.Code, Detail: "role " + f.Object + " " + f.Detail, Remedy: f.Do()}, Warns: f.Severity != preflight.Blocker})
	}
	return out, nil
}
