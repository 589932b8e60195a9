package watch

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
)

// AskFence asks whether the source's fence, after it was closed, was open again for a while. What
// is done to its triggers before does not matter: closing the fence makes them what they must be.
func AskFence(ctx context.Context, source, _ *pgx.Conn) ([]Notice, error) {
	what, err := journal.FenceChanged(ctx, source)
	if err != nil || what == "" {
		return nil, err
	}
	return []Notice{{Blocker: control.Blocker{Code: "fence_changed",
		Detail: "the fence of the source was changed after it was closed: " + what + "; a session may have written to the source",
		Remedy: "find who changes triggers on the source and keep it from that, then ask for the cutover again: each one closes the fence once more"}}}, nil
}
