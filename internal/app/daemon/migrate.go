package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/apply"
)

// migrate takes the run to the stream and follows. An error of the migration
// stops it and is shown; it never ends the daemon, which serves applications.
func (d *follower) migrate(ctx context.Context, onCopy func(control.Copy)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d.core.mu.Lock()
	d.stopMigration = stop
	d.core.mu.Unlock()
	for _, done := range []<-chan struct{}{d.core.coordinator.Settled(), d.entry.joining.done} {
		select {
		case <-done:
		case <-ctx.Done():
			return nil
		}
	}
	if s := d.core.coordinator.Status(); s.Active == machine.SideTarget || s.State.Step == machine.Decided { // or a fallback has led back
		d.afterSwitch(ctx)
		return nil
	}
	var cfg apply.Config
	err := retry.Do(ctx, retry.Policy{OnRetry: obs.Retrying(d.core.log, "migration continues")}, func(ctx context.Context) (err error) {
		defer func() { d.stuckAt(err) }()
		if err = d.hasSlot(ctx); err == nil {
			stop := d.core.migration.Rows.Watch(ctx, onCopy)
			err = d.core.migration.Run(ctx, true)
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
			d.core.fail(err)
		}
		return nil
	}
	if err := d.core.stream.Run(ctx, cfg); err != nil && ctx.Err() == nil {
		d.core.fail(err)
		return nil
	}
	d.afterSwitch(ctx)
	return nil
}

// afterSwitch watches the closed source, and follows it again after a fallback.
func (d *follower) afterSwitch(ctx context.Context) {
	if d.core.wayBack == nil {
		d.watch(ctx)
		return
	}
	d.core.wayBack.forward.Run(ctx)
}

// watch watches the closed source until the run is finished. It does no harm if the source cannot
// be watched any more: its fence remains closed.
func (d *follower) watch(ctx context.Context) {
	if ctx.Err() != nil || d.entry.identity().Source == nil || d.core.coordinator.Status().State.Step == machine.Finished {
		return
	}
	err := retry.Do(ctx, retry.Policy{OnRetry: obs.Retrying(d.core.log, "the source is watched again")}, func(ctx context.Context) error {
		start, err := dbconn.Ask(ctx, d.sessions.watching, func(ctx context.Context, conn *pgx.Conn) (pg.LSN, error) {
			return ports.RestFrom(ctx, conn, d.entry.identity().Target.Slot)
		})
		if err != nil {
			return err
		}
		marker, err := dbconn.Ask(ctx, d.sessions.marking, ports.ClosedAt)
		if err != nil {
			return err
		}
		return d.core.stream.Watch(ctx, d.applyConfig(), d.core.coordinator.Status().Epoch, start, marker)
	})
	if err != nil && ctx.Err() == nil {
		d.core.log.Warn().Err(err).Msg("the source is not watched any more; its fence stands")
	}
}

// applyConfig is what stream and tripwire have in common.
func (d *follower) applyConfig() apply.Config {
	run := d.entry.identity().Target
	return apply.Config{
		Source: d.core.cfg.Source, Target: d.core.cfg.Target, TargetOptions: append(d.core.migration.Schema.RowOptions(), pg.WithKey(run.Key)),
		Slot: run.Slot, Publication: journal.Publication, SystemID: run.SourceSystem, Lane: ports.Lane,
		Start: d.core.migration.Task.Consistent(), BeforeTruncate: d.core.coordinator.YieldTargetLock, Logger: d.core.log,
	}
}

// catchUp records that the copy is complete and returns what the stream needs.
func (d *follower) catchUp(ctx context.Context) (apply.Config, error) {
	cfg, err := d.streamConfig(ctx)
	if err != nil {
		return apply.Config{}, err
	}
	if d.core.coordinator.Status().State.Step == machine.Copying {
		if err := d.core.coordinator.Advance(ctx, machine.CatchingUp); err != nil {
			return apply.Config{}, fmt.Errorf("%w: %w", errNotRecorded, err)
		}
	}
	return cfg, nil
}

// streamConfig is what the stream to the target reads and writes.
func (d *follower) streamConfig(ctx context.Context) (apply.Config, error) {
	if err := d.core.planRead(ctx); err != nil {
		return apply.Config{}, err
	}
	conn, err := d.core.migration.Task.ConnectTarget(ctx)
	if err != nil {
		return apply.Config{}, err
	}
	seen, err := apply.LoadSnapshots(ctx, conn)
	var routes map[uint32]pg.Name
	if err == nil {
		routes, err = apply.LoadRoutes(ctx, conn)
		d.core.migration.Schema.SetRoutes(routes)
	}
	if err == nil {
		err = d.watches.cover.Load(ctx, conn)
	}
	if err == nil {
		err = d.core.migration.Rows.LoadPast(ctx, conn)
	}
	var was journal.Published
	if err == nil {
		was, err = journal.LoadPublished(ctx, conn)
	}
	dbconn.CloseNow(conn)
	if err != nil {
		return apply.Config{}, err
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

// monitor checks what changes by itself: the slot, the lag, the leader's lock.
func (d *follower) monitor(ctx context.Context) error {
	for range retry.Every(ctx, watch.PollInterval) {
		if d.entry.identity().Source == nil {
			continue
		}
		if d.core.coordinator.Status().Active == machine.SideTarget {
			d.checkClosedSource(ctx)
			continue
		}
		if err := d.checkSource(ctx); err != nil && ctx.Err() == nil {
			d.core.log.Debug().Err(err).Msg("source could not be checked")
		}
		if err := d.keepLead(ctx); err != nil {
			return err
		}
		if !d.entry.joined() {
			continue
		}
		d.watchContention(ctx)
		if err := d.askWatchers(ctx); err != nil && ctx.Err() == nil {
			d.core.log.Debug().Err(err).Msg("the databases could not be watched")
		}
		d.advance(ctx)
		d.prepare(ctx)
	}
	return nil
}

// keepLead makes sure that the leader's lock is still ours. Another process that
// took it meanwhile ends this one.
func (d *follower) keepLead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	return d.entry.lead.Keep(ctx)
}

func (d *follower) checkSource(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	return d.sessions.watching.Do(ctx, d.guardSource)
}

// askWatchers protects the applications from the publication and asks the watchers: most of them
// once the target has everything that it gets before the decision. Between the steps of a cutover
// the coordinator asks them itself.
func (d *follower) askWatchers(ctx context.Context) error {
	switch d.core.coordinator.Status().State.Step {
	case machine.Copying, machine.CatchingUp, machine.Following, machine.Idle, machine.Decided: // decided by a fallback
	default:
		return nil
	}
	if !d.core.migration.Task.Reached(journal.PhaseDumped) {
		return nil
	}
	protecting, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	err := d.sessions.watching.Do(protecting, func(ctx context.Context, conn *pgx.Conn) error {
		return d.watches.members.Protect(ctx, conn, d.keepTakenOut)
	})
	return errors.Join(err, d.watches.watchlist.Poll(ctx, !d.core.migration.Task.Reached(journal.PhaseIndexed)))
}

// keepTakenOut records on the target why a table is no longer in the publication.
func (d *follower) keepTakenOut(ctx context.Context, oid uint32, why string) error {
	return d.sessions.marking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error { return journal.SetTakenOut(ctx, conn, oid, why) })
}

// checkClosedSource guards a source that is closed: other databases of its server may still be
// written. It does no harm if the source cannot be reached any more.
func (d *follower) checkClosedSource(ctx context.Context) {
	if d.core.coordinator.Status().State.Step != machine.Decided {
		return
	}
	if err := d.checkSource(ctx); err != nil && ctx.Err() == nil {
		d.core.log.Debug().Err(err).Msg("closed source could not be checked")
	}
}

// advance records that the stream has caught up.
func (d *follower) advance(ctx context.Context) {
	if d.core.coordinator.Status().State.Step != machine.CatchingUp {
		return
	}
	s, err := d.core.stream.Status()
	if err != nil || !s.SourceConnected || s.LagMS < 0 || s.LagBytes > ports.FollowingLag {
		return
	}
	if err := d.core.coordinator.Advance(ctx, machine.Following); err != nil && ctx.Err() == nil {
		d.core.log.Debug().Err(err).Msg("phase following could not be recorded")
	}
}

// prepare gives tables their fence triggers long before a cutover, since that
// waits for the transactions that hold them. What it does not get done now is
// done later, at the latest while arming.
func (d *follower) prepare(ctx context.Context) {
	switch d.core.coordinator.Status().State.Step {
	case machine.CatchingUp, machine.Following, machine.Idle, machine.Decided:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*watch.PollInterval)
	defer cancel()
	err := d.sessions.watching.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.PrepareFence(ctx, conn, d.core.quiet().Patience(d.sessions.sourceActivity, d.core.cfg.SourceLockTimeout), false)
	})
	if err != nil && ctx.Err() == nil {
		d.core.log.Debug().Err(err).Msg("the fence could not be prepared yet")
	}
}
