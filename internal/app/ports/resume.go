package ports

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/progress"
	"crossfade/replicate/slot"
)

// ClosedAt returns where the decision has closed the lane: the end of the marker's
// transaction, which outlives this process and the source's memory of the slot.
func ClosedAt(ctx context.Context, target *pgx.Conn) (pg.LSN, error) {
	row, err := progress.Read(ctx, target, Lane)
	if errors.Is(err, progress.ErrNoLane) {
		return 0, retry.Permanent(err)
	}
	return row.EndLSN, err
}

// RestFrom returns where reading continues after the applier: what the slot has confirmed, once the
// walsender of the applier has received its last report and has ended. After a crash of the source
// that is the position that it had on disk, which may be old.
func RestFrom(ctx context.Context, conn *pgx.Conn, name string) (pg.LSN, error) {
	var sender int32
	for range retry.PollFor(ctx, dbconn.LockPoll, senderPatience) {
		s, ok, err := slot.Get(ctx, conn, name)
		switch {
		case err != nil:
			return 0, err
		case !ok:
			return 0, retry.Permanent(errors.New("its replication slot is gone"))
		case !s.Active:
			return s.ConfirmedFlush, nil
		}
		sender = s.ActivePID
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return 0, fmt.Errorf("process %d of the source still streams from slot %s", sender, name)
}

// senderPatience is how long the walsender of the applier, which has ended, takes to go without
// anything being wrong.
const senderPatience = 5 * time.Second
