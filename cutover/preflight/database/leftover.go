package database

import (
	"context"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

// LeftOver reports a run or copy that exists already. Otherwise the objects that it has made would
// be reported as being in the way.
func LeftOver(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Resume || p.Options.LeftOver == nil {
		return nil, nil
	}
	detail, remedy, err := p.Options.LeftOver(ctx)
	if err != nil || detail == "" {
		return nil, err
	}
	return []answer.Finding{{Code: "left_over_run", Severity: answer.Blocker, Object: "crossfade", Detail: detail, Remedy: remedy}}, nil
}
