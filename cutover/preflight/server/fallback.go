package server

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
)

// Fallback checks what a way back would need on the target, or says that there is none.
func Fallback(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if !p.Options.Fallback {
		return []answer.Finding{{
			Code: "no_fallback", Severity: answer.Info,
			Detail: "there is no way back after the cutover: changes on the target are not replicated to the source",
		}}, nil
	}
	var found []answer.Finding
	level, err := inquiry.Setting(ctx, p.Target, "wal_level")
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
	taken, err := readUsage(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	if !taken.OwnSlot && taken.Slots >= taken.MaxSlots {
		found = append(found, noSlot(answer.Target, taken, "; the way back needs one"))
	}
	return found, nil
}
