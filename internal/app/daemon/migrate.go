package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/apply"
	"crossfade/replicate/progress"
	"crossfade/replicate/slot"
)

// migrate takes the run to the stream and follows. An error of the migration
// stops it and is shown; it never ends the daemon, which serves applications.
func (d *daemon) migrate(ctx context.Context, onCopy func(control.Copy)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d.mu.Lock()
	d.stopMigration = stop
	d.mu.Unlock()
	for _, done := range []<-chan struct{}{d.coordinator.Settled(), d.joining.done} {
		select {
		case <-done:
		case <-ctx.Done():
			return nil
		}
	}
	if d.coordinator.Status().Active == machine.SideTarget {
		d.watch(ctx)
		return nil
	}
	var cfg apply.Config
	err := retry.Do(ctx, retry.Policy{OnRetry: obs.Retrying(d.log, "migration goes on")}, func(ctx context.Context) (err error) {
		defer func() { d.stuckAt(err) }()
		if err = d.hasSlot(ctx); err == nil {
			stop := d.migration.watch(ctx, onCopy)
			err = d.migration.run(ctx, true)
			stop()
		}
		if err == nil {
			cfg, err = d.catchUp(ctx)
		}
		if err != nil && !watch.Passing(err) && !errors.Is(err, errNotRecorded) && !pg.IsCode(err, pg.CodeDiskFull) {
			return retry.Permanent(err)
		}
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			d.fail(err)
		}
		return nil
	}
	if err := d.stream.run(ctx, cfg); err != nil && ctx.Err() == nil {
		d.fail(err)
		return nil
	}
	d.watch(ctx)
	return nil
}

// watch keeps an eye on the closed source until the run is finished. That the
// source cannot be watched any more harms nobody: its fence stands.
func (d *daemon) watch(ctx context.Context) {
	if ctx.Err() != nil || d.identity().Source == nil || d.coordinator.Status().State.Step == machine.Finished {
		return
	}
	err := retry.Do(ctx, retry.Policy{OnRetry: obs.Retrying(d.log, "the source is watched again")}, func(ctx context.Context) error {
		var start pg.LSN
		err := d.watching.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
			start, err = restFrom(ctx, conn, d.identity().Target.Slot)
			return err
		})
		if err != nil {
			return err
		}
		var marker pg.LSN
		err = d.marking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
			marker, err = closedAt(ctx, conn)
			return err
		})
		if err != nil {
			return err
		}
		return d.stream.watch(ctx, d.applyConfig(), d.coordinator.Status().Epoch, start, marker)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Warn().Err(err).Msg("the source is not watched any more; its fence stands")
	}
}

// closedAt returns where the decision has closed the lane: the end of the marker's
// transaction, which outlives this process and the source's memory of the slot.
func closedAt(ctx context.Context, target *pgx.Conn) (pg.LSN, error) {
	row, err := progress.Read(ctx, target, lane)
	if errors.Is(err, progress.ErrNoLane) {
		return 0, retry.Permanent(err)
	}
	return row.EndLSN, err
}

// restFrom returns where reading goes on behind the applier: what the slot has
// confirmed, once the walsender of the applier has heard its last report and gone.
// After a crash of the source that is what it had on disk, which may be long ago.
func restFrom(ctx context.Context, conn *pgx.Conn, name string) (pg.LSN, error) {
	late := time.NewTimer(senderPatience)
	defer late.Stop()
	tick := time.NewTicker(dbconn.LockPoll)
	defer tick.Stop()
	for {
		s, ok, err := slot.Get(ctx, conn, name)
		switch {
		case err != nil:
			return 0, err
		case !ok:
			return 0, retry.Permanent(errors.New("its replication slot is gone"))
		case !s.Active:
			return s.ConfirmedFlush, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-late.C:
			return 0, fmt.Errorf("process %d of the source still streams from slot %s", s.ActivePID, name)
		case <-tick.C:
		}
	}
}

// senderPatience is how long the walsender of the applier, which has ended, takes to go without anything being wrong.
const senderPatience = 5 * time.Second

// applyConfig is what stream and tripwire have in common.
func (d *daemon) applyConfig() apply.Config {
	run := d.identity().Target
	return apply.Config{
		Source: d.cfg.Source, Target: d.cfg.Target, TargetOptions: append(d.migration.rowOptions(), pg.WithKey(run.Key)),
		Slot: run.Slot, Publication: journal.Publication, SystemID: run.SourceSystem, Lane: lane,
		Start: d.migration.consistent(), BeforeTruncate: d.coordinator.YieldTargetLock, Logger: d.log,
	}
}

// catchUp records that the copy is behind us and returns what the stream needs.
func (d *daemon) catchUp(ctx context.Context) (apply.Config, error) {
	conn, err := d.migration.connectTarget(ctx)
	if err != nil {
		return apply.Config{}, err
	}
	seen, err := apply.LoadSnapshots(ctx, conn)
	var routes map[uint32]pg.Name
	if err == nil {
		routes, err = apply.LoadRoutes(ctx, conn)
		d.migration.setRoutes(routes)
	}
	if err == nil {
		err = d.cover.Load(ctx, conn)
	}
	if err == nil {
		err = d.migration.loadPast(ctx, conn)
	}
	var was journal.Published
	if err == nil {
		was, err = journal.LoadPublished(ctx, conn)
	}
	dbconn.CloseNow(conn)
	if err != nil {
		return apply.Config{}, err
	}
	if d.coordinator.Status().State.Step == machine.Copying {
		if err := d.coordinator.Advance(ctx, machine.CatchingUp); err != nil {
			return apply.Config{}, fmt.Errorf("%w: %w", errNotRecorded, err)
		}
	}
	cfg := d.applyConfig()
	cfg.Snapshots, cfg.Routes, cfg.Copied = seen, routes, map[uint32]apply.Copied{}
	for _, t := range was.Tables {
		cfg.Copied[t.OID] = apply.Copied{Name: t.Table, Columns: t.Columns}
	}
	return cfg, nil
}

// errNotRecorded says that a phase could not be recorded now. The coordinator
// finds out by itself what became of it.
var errNotRecorded = errors.New("the end of the copy could not be recorded")

// followingLag is how many bytes the stream may be behind to count as following
// rather than catching up: less than a second's worth of a busy source.
const followingLag = 1 << 20

// followingDelay is how old the newest applied heartbeat may be for the same; they
// come every second.
const followingDelay = 2 * time.Second

// monitor looks at what changes by itself: the slot, the lag, the leader's lock.
func (d *daemon) monitor(ctx context.Context) error {
	tick := time.NewTicker(watch.PollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if d.identity().Source == nil {
			continue
		}
		if d.coordinator.Status().Active == machine.SideTarget {
			d.lookBehind(ctx)
			continue
		}
		if err := d.look(ctx); err != nil && ctx.Err() == nil {
			d.log.Debug().Err(err).Msg("source could not be looked at")
		}
		if err := d.keepLead(ctx); err != nil {
			return err
		}
		if !d.joined() {
			continue
		}
		d.lookAtContention(ctx)
		if err := d.lookAround(ctx); err != nil && ctx.Err() == nil {
			d.log.Debug().Err(err).Msg("the databases could not be watched")
		}
		d.advance(ctx)
		d.prepare(ctx)
	}
}

// keepLead makes sure that the leader's lock is still ours. Another process that
// took it meanwhile ends this one.
func (d *daemon) keepLead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	return d.lead.Keep(ctx)
}

func (d *daemon) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	return d.watching.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return d.guardSource(ctx, conn)
	})
}

// lookAround protects the applications from the publication and asks the watchers: most
// of them once the target has everything that it gets before the decision. Between the steps of a cutover the coordinator asks them itself.
func (d *daemon) lookAround(ctx context.Context) error {
	switch d.coordinator.Status().State.Step {
	case machine.Copying, machine.CatchingUp, machine.Following, machine.Idle:
	default:
		return nil
	}
	if !d.migration.reached(journal.PhaseDumped) {
		return nil
	}
	protecting, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	err := d.watching.Do(protecting, func(ctx context.Context, conn *pgx.Conn) error {
		return d.members.Protect(ctx, conn, d.keepTakenOut)
	})
	return errors.Join(err, d.watchlist.Look(ctx, !d.migration.reached(journal.PhaseIndexed)))
}

// keepTakenOut records on the target why a table is in the publication no more.
func (d *daemon) keepTakenOut(ctx context.Context, oid uint32, why string) error {
	return d.marking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error { return journal.SetTakenOut(ctx, conn, oid, why) })
}

// lookBehind guards a source that is closed: other databases of its server may
// write on. That it cannot be reached any more is no harm.
func (d *daemon) lookBehind(ctx context.Context) {
	if d.coordinator.Status().State.Step != machine.Decided {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	if err := d.watching.Do(ctx, d.guardSource); err != nil && ctx.Err() == nil {
		d.log.Debug().Err(err).Msg("closed source could not be looked at")
	}
}

// advance records that the stream has caught up.
func (d *daemon) advance(ctx context.Context) {
	if d.coordinator.Status().State.Step != machine.CatchingUp {
		return
	}
	s, err := d.stream.status()
	if err != nil || !s.SourceConnected || s.LagMS < 0 || s.LagBytes > followingLag {
		return
	}
	if err := d.coordinator.Advance(ctx, machine.Following); err != nil && ctx.Err() == nil {
		d.log.Debug().Err(err).Msg("phase following could not be recorded")
	}
}

// prepare gives tables their fence triggers long before a cutover, since that
// waits for the transactions that hold them. What it does not get done now is
// done later, at the latest while arming.
func (d *daemon) prepare(ctx context.Context) {
	switch d.coordinator.Status().State.Step {
	case machine.CatchingUp, machine.Following, machine.Idle:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	err := d.watching.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.PrepareFence(ctx, conn, d.quiet().patience(d.looking, d.cfg.SourceLockTimeout), false)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Debug().Err(err).Msg("the fence could not be prepared yet")
	}
}
