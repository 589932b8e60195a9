package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/lanes"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
	"crossfade/replicate/stream"
	"crossfade/schema/finding"
	"crossfade/schema/passive"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// wayBack is what leads from the target to the source again. Its ports are those of a fallback, over
// the sessions of a cutover's, which is never under way at the same time.
type wayBack struct {
	back      *lanes.Back
	lane      *lanes.Lane // from the target to the source
	forward   *lanes.Lane // from the source to the target, after the first switch
	stream    *ports.Following
	source    *ports.Source // of a fallback: the target's database
	target    *ports.Target // of a fallback: the source's database
	left      *ports.Completion
	registrar *ports.Registrar // of the proxy's connections to the target
}

// buildWayBack makes the ports of a fallback from those of a cutover.
func (d *daemon) buildWayBack(src *ports.Source, dst *ports.Target) *wayBack {
	cfg, key, log := d.core.cfg, pg.WithKeyFrom(d.entry.key), obs.Component(d.core.log, "way back")
	w := &wayBack{stream: ports.NewFollowing(), left: &ports.Completion{Log: log}}
	w.back = &lanes.Back{Target: cfg.Target, Key: key, Slot: d.backSlot, Log: log}
	w.registrar = &ports.Registrar{Incarnation: d.core.incarnation, Control: dst.Control, PIDs: func() []int32 { return d.serverPIDs(machine.SideTarget) }}
	w.source = &ports.Source{Owner: src.Owner, Incarnation: d.core.incarnation, LockTimeout: cfg.SourceLockTimeout, Control: dst.Control, Counting: dst.Reading, Reading: dst.Asking,
		Register: w.registrar.Flush, Quiet: src.Quiet, ServerPIDs: src.ServerPIDs, RoundTrips: exchanged(src.RoundTrips), Expect: w.stream.Expect, Cover: w.back,
		Confirm: func(context.Context, bool) error { return w.lane.Err() }, Version: d.entry.versions[1], Majors: src.Majors, Late: src.Late,
		Lock: &ports.Prelock{DSN: cfg.Target, Options: []pg.Option{pg.WithName("pre-lock"), key}, Watch: dst.Lock.Watch, Spare: dst.Control}}
	w.target = &ports.Target{Direction: machine.Reverse, Opens: passive.Restored + ports.OpensSource, Done: passive.Done, DSN: cfg.Source, Key: dst.Key, Control: src.Control, Asking: src.Reading, Reading: src.Counting,
		Plan: func(ctx context.Context, conn *pgx.Conn) (*plan.DecisionSQL, error) {
			sql, err := passive.Restoration(ctx, conn)
			return &sql, err
		},
		Reached: w.stream.MarkerEnd, After: func(context.Context) error { w.stream.EndApplier(); return nil },
		Last:       func(context.Context, *pgx.Conn) ([]finding.Finding, error) { return nil, nil },
		Unfinished: unfinishedSource, Left: w.left, Whole: func(context.Context, *pgx.Conn) error { return nil },
		Quiet: dst.Quiet, Fenced: w.source.Fenced.Load, Majors: src.Majors, Late: src.Late, Reverse: d.forwardSlot,
		Lock: &ports.Prelock{DSN: cfg.Source, Options: []pg.Option{pg.WithName("pre-lock")}, Watch: src.Lock.Watch, Spare: src.Control}}
	w.lane = &lanes.Lane{Direction: machine.Reverse, Stream: w.stream, From: dst.Control, To: src.Control, Config: d.backConfig, Aside: d.core.aside, Prepared: w.back.Made,
		Writing: func(ctx context.Context) (*pgx.Conn, error) {
			return pg.Connect(ctx, cfg.Source, pg.WithName("make passive"))
		},
		Status: d.core.coordinatorStatus, Log: log}
	return w
}

// aside is what the migration knows of what reacts on a side.
func (d *core) aside(context.Context, *pgx.Conn) (passive.Config, error) {
	return passive.Config{Checks: d.migration.Schema.LateChecks(), Path: d.migration.Schema.SearchPath()}, nil
}

// asideOfTarget is aside, with what of the work after the first switch has not been done when the
// target is made passive: it is done after the next one.
func (d *follower) asideOfTarget(ctx context.Context, target *pgx.Conn) (passive.Config, error) {
	cfg, err := d.core.aside(ctx, target)
	if err != nil {
		return cfg, err
	}
	was, err := journal.WasPassive(ctx, target)
	if err != nil || was || d.core.migration.Task.Reached(journal.PhaseValid) {
		return cfg, err
	}
	sql, err := d.core.migration.Schema.DecisionSQL()
	if err == nil {
		cfg.Undone = sql.After
	}
	return cfg, err
}

// exchanged puts the times of the two sides in the order of the other direction.
func exchanged(roundTrips func(context.Context) [2]time.Duration) func(context.Context) [2]time.Duration {
	return func(ctx context.Context) [2]time.Duration {
		t := roundTrips(ctx)
		return [2]time.Duration{t[1], t[0]}
	}
}

// coordinatorStatus is the coordinator's status.
func (d *core) coordinatorStatus() cutover.Status { return d.coordinator.Status() }

// backSlot is the name of the slot on the target.
func (d *daemon) backSlot() string { return lanes.BackSlot(d.entry.identity().Target.Slot) }

// serverPIDs are the proxy's server connections on a side, none while the other one is active.
func (d *daemon) serverPIDs(side machine.Side) []int32 {
	if d.core.coordinator.Status().Active != side {
		return nil
	}
	return d.core.proxy.ServerPIDs()
}

// forwardSlot refuses a fallback after which nothing could be followed to the target any more: its
// slot on the source is gone.
func (d *daemon) forwardSlot(ctx context.Context) error {
	name := d.entry.identity().Target.Slot
	return d.sessions.watching.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		s, ok, err := slot.Get(ctx, conn, name)
		if err == nil && (!ok || s.Lost()) {
			err = fmt.Errorf("slot %s of the source is gone, so that after the fallback nothing would lead to the target again", name)
		}
		return err
	})
}

// backConfig is what the stream from the target to the source reads and writes.
func (d *daemon) backConfig(ctx context.Context) (apply.Config, error) {
	if err := d.core.planRead(ctx); err != nil {
		return apply.Config{}, err
	}
	cfg := apply.Config{
		Source: d.core.cfg.Target, SourceOptions: []pg.Option{pg.WithKeyFrom(d.entry.key)},
		Target: d.core.cfg.Source, TargetOptions: append(d.core.migration.Schema.RowOptions(), pg.WithKeyFrom(d.entry.key)),
		Slot: d.backSlot(), Publication: journal.Publication, Lane: ports.Lane, BeforeTruncate: d.core.coordinator.YieldTargetLock, Logger: obs.Component(d.core.log, "way back"),
	}
	err := d.sessions.marking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		if cfg.Routes, err = apply.LoadRoutesHere(ctx, conn); err != nil {
			return err
		}
		s, ok, err := slot.Get(ctx, conn, cfg.Slot)
		switch {
		case err != nil:
			return err
		case !ok || s.Lost():
			return retry.Permanent(errWayBackGone)
		}
		cfg.Start = s.ConfirmedFlush
		return nil
	})
	return cfg, err
}

// errWayBackGone says that the target has given up the slot of the way back.
var errWayBackGone = errors.New("the target does not have the slot of the way back any more, and with it what was written since the switch: there is no way back any more")

// wayBackGone reports whether an error of the stream means that changes are lost to it.
func wayBackGone(err error) bool {
	return errors.Is(err, errWayBackGone) || pg.IsCode(err, pg.CodeUndefinedObject, pg.CodeObjectNotInState) ||
		errors.As(err, new(*apply.MissedError)) || errors.As(err, new(*stream.SlotAdvancedError))
}

// unfinishedSource words what the source has refused after a fallback.
func unfinishedSource(_ context.Context, _ *pgx.Conn, refused []*restore.Error) []control.Blocker {
	return lists.Map(refused, func(r *restore.Error) control.Blocker {
		return control.Blocker{Code: "not_whole", Detail: "after the fallback the source has refused " + r.Finding.String(), Remedy: "remove the cause; it is tried again by itself"}
	})
}

// fallback is the state of the way back, for the status.
func (d *answers) fallback(active machine.Side) control.Fallback {
	w := d.core.wayBack
	if w == nil || active != machine.SideTarget {
		return control.Fallback{State: control.FallbackNone, LagMS: control.Unknown}
	}
	f := control.Fallback{State: control.FallbackStopped, LagMS: control.Unknown}
	if err := w.lane.Err(); err != nil {
		if f.Detail = err.Error(); wayBackGone(err) {
			f.State = control.FallbackGone
		}
		return f
	}
	s, err := w.stream.Status()
	switch {
	case err != nil && !errors.Is(err, ports.ErrNotFollowing):
		f.Detail = err.Error()
	case err != nil:
		f.State = control.FallbackCatchingUp
	case ports.CutOff(s) != nil:
		f.State, f.Detail = control.FallbackCatchingUp, ports.CutOff(s).Error()
	default:
		f.State, f.LagMS, f.LagBytes = control.FallbackLossless, s.LagMS, s.LagBytes
		if s.LagMS < 0 || s.LagBytes > ports.FollowingLag {
			f.State = control.FallbackCatchingUp
		}
	}
	return f
}

// wayBackObstacles are what refuses a fallback that the step allows.
func (d *answers) wayBackObstacles() []machine.Obstacle {
	const again = "look at fallback in crossfade status"
	switch f := d.fallback(machine.SideTarget); f.State {
	case control.FallbackGone, control.FallbackStopped:
		return []machine.Obstacle{{Code: "no_way_back", Detail: "the source does not have what was written to the target: " + f.Detail, Remedy: again}}
	case control.FallbackCatchingUp:
		if f.Detail == "" {
			f.Detail = fmt.Sprintf("%d bytes are left", max(f.LagBytes, 0))
		}
		return []machine.Obstacle{{Code: "way_back_behind", Detail: "the source is catching up with the target: " + f.Detail, Remedy: "wait until fallback in crossfade status is lossless"}}
	}
	return nil
}

// leadBack keeps the source level with the target, once there is what that is read from.
func (d *daemon) leadBack(ctx context.Context) error {
	w := d.core.wayBack
	for _, done := range []<-chan struct{}{d.core.coordinator.Settled(), d.entry.joining.done} {
		select {
		case <-done:
		case <-ctx.Done():
			return nil
		}
	}
	_ = retry.Do(ctx, retry.Policy{OnRetry: obs.Retrying(w.lane.Log, "the way back is not made yet")}, func(ctx context.Context) error {
		if err := d.sessions.marking.Do(ctx, w.back.Find); err != nil || w.back.Made() {
			return err
		}
		for range retry.Poll(ctx, wayBackPoll) { // what is made on the target while an attempt is under way would end it
			switch s := d.core.coordinator.Status(); {
			case s.Active == machine.SideTarget: // switched without it
				return nil
			case s.State.Step == machine.Following || s.State.Step == machine.Idle || s.State.Step == machine.Decided:
				return w.back.Prepare(ctx)
			}
		}
		return ctx.Err()
	})
	w.lane.Run(ctx)
	return nil
}

// wayBackPoll is how often it is looked whether the way back can be made.
const wayBackPoll = 100 * time.Millisecond

// openProof is called before applications reach the target, in an epoch that may have been an attempt
// to fall back: what is proved is the one that has opened the target.
func (d *daemon) openProof(ctx context.Context, epoch int64) {
	if last, err := d.openedTarget(ctx); err == nil && last > 0 {
		epoch = last
	}
	d.entry.openProof(ctx, epoch)
}

// openedTarget is the newest epoch that has opened the target, 0 for none.
func (d *daemon) openedTarget(ctx context.Context) (int64, error) {
	last, err := dbconn.Ask(ctx, d.sessions.marking, func(ctx context.Context, conn *pgx.Conn) (journal.Opening, error) {
		return journal.LastCommit(ctx, conn)
	})
	return last.Epoch, err
}

// keepProving continues the comparison that follows a switch where an attempt to fall back has ended it.
func (d *daemon) keepProving(ctx context.Context) error {
	for range retry.Every(ctx, ports.CompletionPause) {
		s := d.core.coordinator.Status()
		if s.Active != machine.SideTarget || s.State.Phase != machine.PhaseRest || s.State.Step != machine.Idle || verifyState(s.Verification.State) != "idle" {
			continue
		}
		epoch, err := d.openedTarget(ctx)
		if err == nil {
			err = d.core.verify.Start(ctx, epoch)
		}
		if err != nil && ctx.Err() == nil {
			d.core.log.Warn().Err(err).Msg("the comparison of both sides is continued later")
		}
	}
	return nil
}

// forwardLane leads from the source to the target after the first switch.
func (d *follower) forwardLane() *lanes.Lane {
	return &lanes.Lane{Direction: machine.Forward, Stream: d.core.stream, From: d.sessions.watching, To: d.sessions.marking,
		Config: d.streamConfig, Aside: d.asideOfTarget,
		Writing: d.core.migration.Task.ConnectTarget,
		Closed: func(ctx context.Context, target *pgx.Conn) error {
			if err := pg.Exec(ctx, target, slot.Silence(journal.Publication)); err != nil {
				return err
			}
			return journal.SealAgain(ctx, target)
		},
		Status: d.core.coordinatorStatus, Log: obs.Component(d.core.log, "follow")}
}
