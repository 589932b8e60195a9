package daemon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/control"
	"crossfade/internal/journal"
)

// askFence asks whether the source's fence, once it is closed, was open again for a
// while. What is done to its triggers before does not matter: closing it makes them
// what they must be.
func askFence(ctx context.Context, source, _ *pgx.Conn) ([]notice, error) {
	what, err := journal.FenceChanged(ctx, source)
	if err != nil || what == "" {
		return nil, err
	}
	return []notice{{Blocker: control.Blocker{Code: "fence_changed",
		Detail: "the fence of the source was changed after it was closed: " + what + "; somebody may have written to the source",
		Remedy: "find who changes triggers on the source, and try again"}}}, nil
}

// askTargetFence asks whether the target's fence was open for a while since it was made,
// so that its rows may not be the source's.
func askTargetFence(ctx context.Context, _, target *pgx.Conn) ([]notice, error) {
	changed, err := journal.GuardChanged(ctx, target)
	if err != nil || len(changed) == 0 {
		return nil, err
	}
	what := "function crossfade.fence() was replaced"
	if changed[0].Name != "" {
		names := make([]string, 0, len(changed))
		for _, n := range changed {
			names = append(names, n.Display())
		}
		what = fmt.Sprintf("trigger %s was disabled, dropped or changed on %s", journal.FenceTrigger, some("table", names))
	}
	return []notice{{Blocker: control.Blocker{Code: "target_fence_changed",
		Detail: "the fence of the target was changed since it was made: " + what + "; somebody may have written to the target",
		Remedy: "find who changes triggers on the target, then " + startOver}}}, nil
}
