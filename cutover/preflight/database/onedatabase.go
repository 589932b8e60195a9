package database

import (
	"context"
	"errors"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/onedatabase"
)

// OneDatabase refuses two names of one database, and a standby as the target: what a run
// drops, makes and writes there would be dropped, made and written on the source.
func OneDatabase(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	err := onedatabase.Refuse(ctx, p.Source, p.Target)
	var one *onedatabase.Error
	var standby *onedatabase.StandbyError
	switch {
	case errors.As(err, &one):
		detail, remedy := one.Parts()
		return []answer.Finding{{Code: "one_database", Severity: answer.Blocker, Object: one.Database, Detail: detail, Remedy: remedy}}, nil
	case errors.As(err, &standby):
		return []answer.Finding{{Code: "standby", Severity: answer.Blocker, Detail: standby.Detail, Remedy: standby.Remedy}}, nil
	}
	return nil, err
}
