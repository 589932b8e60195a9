package preflight

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
)

// checkFallback looks at what a way back would need of the target, or says
// that there is none.
func (p *Preflight) checkFallback(ctx context.Context) ([]answer.Finding, error) {
	if !p.opts.Fallback {
		return []answer.Finding{{
			Code: "no_fallback", Severity: answer.Info,
			Detail: "there is no way back after the cutover: changes of the target are not led to the source",
		}}, nil
	}
	var found []answer.Finding
	level, err := setting(ctx, p.target, "wal_level")
	if err != nil {
		return nil, err
	}
	if level != "logical" {
		found = append(found, answer.Finding{
			Code: "target_wal_level", Severity: answer.Blocker, Object: "target",
			Detail: fmt.Sprintf("wal_level is %s; the way back needs logical", level),
			Remedy: "ALTER SYSTEM SET wal_level = 'logical' on the target, then restart it (Neon: enable logical replication in the project's settings)",
			On:     answer.Target, SQL: "ALTER SYSTEM SET wal_level = 'logical'",
		})
	}
	taken, err := readUsage(ctx, p.target)
	if err != nil {
		return nil, err
	}
	if !taken.OwnSlot && taken.Slots >= taken.MaxSlots {
		found = append(found, noSlot(answer.Target, taken, "; the way back needs one"))
	}
	return found, nil
}
