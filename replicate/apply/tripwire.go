package apply

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/pg"
	"crossfade/replicate/stream"
)

// Tripwire reads the stream of a source whose lane a decision has closed. It
// applies nothing: every transaction after the marker with changes that does not begin
// with a message of ours is an alarm (C17), and all that was read is confirmed, so that
// the source keeps no WAL for it and can be shut down.
type Tripwire struct{ cfg Config }

// NewTripwire takes the Config of a Follower, and uses only what concerns the source, and OnAlarm.
func NewTripwire(cfg Config) (*Tripwire, error) {
	if cfg.OnAlarm == nil {
		return nil, errors.New("apply: a tripwire without an alarm")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Tripwire{cfg: cfg}, nil
}

// Run reads from start, which is no earlier than what the slot has confirmed, until ctx ends or the
// slot cannot be read any more. marker is where the marker's transaction ended. Transactions before
// it raise no alarm: after a crash the source has an older position of the slot than the one it was
// told, and sends again what was applied long ago. OnAlarm is called on Run's goroutine.
func (t *Tripwire) Run(ctx context.Context, start, marker pg.LSN) error {
	reader, err := stream.NewReader(t.cfg.stream(max(start, marker)))
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return reader.Run(ctx) })
	group.Go(func() error {
		var reported pg.LSN
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case p := <-reader.Parts():
				if a := alarmSince(p, marker); a != nil && a.LSN != reported {
					reported = a.LSN
					t.cfg.OnAlarm(*a)
				}
				if p.Idle != 0 {
					reader.Confirm(p.Idle)
				} else if p.Last {
					reader.Confirm(p.EndLSN)
				}
				p.Release()
			}
		}
	})
	return group.Wait()
}

// alarmSince is alarmOf for a transaction that ended at the marker or later.
func alarmSince(p *stream.Part, marker pg.LSN) *Alarm {
	if a := alarmOf(p); a != nil && a.LSN >= marker {
		return a
	}
	return nil
}
