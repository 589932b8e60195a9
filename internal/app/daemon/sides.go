package daemon

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
)

// explain says what server processes of the source do and wait for, for those whose
// transactions keep a drain from ending.
func (d *answers) explain(ctx context.Context, pids []int32) map[int32]string {
	words := map[int32]string{}
	err := d.sessions.sourceActivity.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		found, err := dbconn.LockWaits(ctx, conn, pids)
		for pid, w := range found {
			words[pid] = w.Details()
			if len(w.Holders) > 0 && w.Lock != "" {
				words[pid] += "; it waits: " + w.String()
			}
		}
		return err
	})
	if err != nil {
		d.core.log.Debug().Err(err).Msg("sessions that keep the drain from ending could not be inspected")
	}
	return words
}

// roundTrips measures how long each side takes to answer, 0 for one that does not.
func (d *answers) roundTrips(ctx context.Context) (took [2]time.Duration) {
	for i, l := range []*dbconn.Link{d.sessions.sourceActivity, d.sessions.marking} {
		_ = l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			if err := conn.Ping(ctx); err != nil { // a session that has just been opened is slower
				return err
			}
			begun := time.Now()
			err := conn.Ping(ctx)
			if err == nil {
				took[i] = max(time.Since(begun), 1)
			}
			return err
		})
	}
	return took
}

// activeAway says why the applications have no database now, "" where they have one.
func (d *answers) activeAway(active machine.Side) string {
	if side, err := d.watches.pulse.Away(); err != nil && side == active {
		return err.Error()
	}
	if b := d.entry.awayBlocker(); b != nil && d.entry.missing == string(active) {
		return b.Detail
	}
	return ""
}

// targetLost is a blocker of everything where the target serves and is not there.
func (d *answers) targetLost() *control.Blocker {
	side, err := d.watches.pulse.Away()
	if err == nil || side != machine.SideTarget {
		return nil
	}
	return &control.Blocker{Code: "target_away", Detail: err.Error() + "; the applications have no database until it does",
		Remedy: "make it reachable; the applications are served again by themselves when it is"}
}
