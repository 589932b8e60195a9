package daemon

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight"
	"crossfade/internal/control"
	"crossfade/schema"
)

// ask makes the roles that the source got meanwhile, has those that the run made follow the
// source's, and names who could not log in behind the switch or would be somebody else: a
// watcher's question.
func (u *users) ask(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
	if err := u.logins.ensure(ctx, source, target); err != nil {
		return nil, err
	}
	if err := u.roles.renew(ctx, rolesFresh); err != nil {
		return nil, err
	}
	found, err := preflight.CompareLogins(ctx, source, target, u.survey(), schema.PlatformRole)
	if err != nil {
		return nil, err
	}
	var out []notice
	for _, f := range found {
		if f.Severity == preflight.Info {
			continue
		}
		out = append(out, notice{Blocker: control.Blocker{Code: f.Code, Detail: "role " + f.Object + " " + f.Detail, Remedy: f.Remedy}, warns: f.Severity != preflight.Blocker})
	}
	return out, nil
}
