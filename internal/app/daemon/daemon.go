package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/definitions"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/proxy"
	"crossfade/proxy/tlsconf"
	"crossfade/replicate/slot"
	"crossfade/replicate/verify"
	"crossfade/schema/passive"
	"crossfade/schema/plan"
)

// daemon is one run of `crossfade run`. Its parts share one lock, that of core.
type daemon struct {
	core     *core
	sessions *sessions
	watches  *watches
	entry    *entry
	follower *follower
	finisher *finisher
	answers  *answers
}

func newDaemon(cfg options.Run, log zerolog.Logger) *daemon {
	c := &core{cfg: cfg, log: log, incarnation: rand.Text(), stream: ports.NewFollowing(), left: &ports.Completion{Log: obs.Component(log, "completion")}}
	s := &sessions{}
	w := &watches{cover: &watch.Coverage{}, members: &watch.Members{LockTimeout: cfg.SourceLockTimeout, Log: log},
		guard: watch.NewGuard(cfg.Source, cfg.MaxRate, cfg.WALBudget, log)}
	e := &entry{core: c, plain: [2]pg.DSN{cfg.Source, cfg.Target}, lead: runs.NewLeader(cfg.Source, log), joining: newJoining()}
	f := &follower{core: c, sessions: s, watches: w, entry: e}
	end := &finisher{core: c, sessions: s, watches: w, entry: e}
	a := &answers{core: c, sessions: s, watches: w, entry: e, follower: f, finisher: end}
	return &daemon{core: c, sessions: s, watches: w, entry: e, follower: f, finisher: end, answers: a}
}

// Run serves the applications and moves the database, until ctx ends. onCopy, if
// set, is called with the figures of the copy.
func Run(ctx context.Context, cfg options.Run, log zerolog.Logger, onCopy func(control.Copy)) error {
	if err := cfg.Validate(); err != nil {
		return exit.Usage(err)
	}
	if err := refuseHostLists(cfg); err != nil {
		return exit.Usage(err)
	}
	d := newDaemon(cfg, log)
	var err error
	if d.core.users, err = logins.Load(cfg.Logins(), log); err != nil {
		return err
	}
	d.core.users.Roles.Asking = d.sessions.link(cfg.Source, "logins")
	var cert *tlsconf.Server
	if cfg.TLSCert != "" {
		if cert, err = tlsconf.LoadServerCA(cfg.TLSCert, cfg.TLSKey, cfg.TLSClientCA); err != nil {
			return exit.Usage(err)
		}
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for clients at %s: %w; choose another address with --listen", cfg.Listen, withoutNoise(err))
	}
	metrics := obs.NewRegistry()
	server, err := control.Listen(control.Config{Socket: cfg.Control, HTTP: cfg.HTTP, Daemon: requests{d.answers, d.finisher}, Metrics: obs.MetricsHandler(metrics), Log: log})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := d.entry.open(ctx); err != nil {
		d.close()
		return errors.Join(err, listener.Close(), server.Close())
	}
	defer d.close()
	if err := d.build(listener, cert, metrics); err != nil {
		return errors.Join(err, listener.Close(), server.Close())
	}
	return d.serve(ctx, server, onCopy)
}

// refuseHostLists refuses a list of hosts: the slot, the fence and the sessions of a run are on one
// server, and the next one of the list has none of them.
func refuseHostLists(cfg options.Run) error {
	for flag, d := range map[string]pg.DSN{"--source": cfg.Source, "--target": cfg.Target} {
		if n := d.Hosts(); n > 1 {
			return fmt.Errorf("%s names %d hosts, and a run is between two servers: name the one that is written to", flag, n)
		}
	}
	return nil
}

// withoutNoise keeps the part of a listener's error that gives the reason.
func withoutNoise(err error) error {
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		return oe.Err
	}
	return err
}

// build makes the parts and connects them.
func (d *daemon) build(listener net.Listener, cert *tlsconf.Server, metrics prometheus.Registerer) error {
	source, target := d.core.users.Endpoints()
	pc := proxy.Config{Listener: listener, Auth: d.core.users, TLS: cert, RequireCertificate: d.core.cfg.ClientAuth == logins.ClientAuthCert, Source: source, Target: target, Closed: true, Metrics: metrics,
		TrackSettings: d.core.cfg.ProxySettings(), Limits: proxy.Limits{HoldLimit: d.core.cfg.HoldLimit, ShutdownTimeout: d.core.cfg.ShutdownTimeout},
		User: d.core.cfg.Source.User(), Database: d.core.cfg.Source.Database(), Types: &ports.TypeStore{Target: d.sessions.link(d.core.cfg.Target, "types", pg.WithKeyFrom(d.entry.key))}, Log: obs.Component(d.core.log, "proxy")}
	d.sessions.sourceActivity = d.sessions.link(d.core.cfg.Source, "look")
	pc.Explain = d.answers.explain
	var err error
	if d.core.proxy, err = proxy.New(pc); err != nil {
		return err
	}
	key := pg.WithKeyFrom(d.entry.key)
	d.core.migration = migration.New(migration.Config{Source: d.core.cfg.Source, Target: d.core.cfg.Target, Identity: d.entry.id, Jobs: d.core.cfg.Jobs, ChunkBytes: d.core.cfg.ChunkBytes, LockTimeout: d.core.cfg.SourceLockTimeout, Waits: true,
		Options: d.core.cfg.CopyOptions(),
		Roles:   d.core.cfg.Logins().SchemaRoles(), Log: obs.Component(d.core.log, "migration"), Phase: d.entry.id.Target.Phase, Limit: d.watches.guard.Limit, OnBlocked: d.watches.guard.Blocked})
	d.watches.definitions = definitions.New(d.core.migration, d.sessions.link(d.core.cfg.Source, "definitions", pg.WithLockTimeout(d.core.cfg.SourceLockTimeout)), d.sessions.link(d.core.cfg.Target, "definitions", key),
		[2]*dbconn.Link{d.sessions.link(d.core.cfg.Source, "definitions guard"), d.sessions.link(d.core.cfg.Target, "definitions guard", key)}, obs.Component(d.core.log, "definitions"))
	d.core.verify = &ports.Verification{Source: d.core.cfg.Source, Target: d.core.cfg.Target, Tables: d.core.compared, Path: d.core.migration.Schema.SearchPath, Journal: d.sessions.link(d.core.cfg.Target, "proof"), Log: obs.Component(d.core.log, "verify")}
	d.core.comparison, d.core.verify.GiveWay = d.newComparison(key), d.giveWay
	d.core.registrar = &ports.Registrar{Incarnation: d.core.incarnation, Control: d.sessions.link(d.core.cfg.Source, "register"), PIDs: func() []int32 { return d.serverPIDs(machine.SideSource) }}

	who := &ports.Owner{}
	majors := [2]int{d.entry.versions[0] / 10000, d.entry.versions[1] / 10000}
	short := pg.WithLockTimeout(d.core.cfg.SourceLockTimeout)
	sourceControl := d.sessions.link(d.core.cfg.Source, "cutover")
	src := &ports.Source{Owner: who, Incarnation: d.core.incarnation, LockTimeout: d.core.cfg.SourceLockTimeout, Control: sourceControl,
		Counting: d.sessions.link(d.core.cfg.Source, "census", short), Reading: d.sessions.link(d.core.cfg.Source, "sequences", short), Register: d.core.registrar.Flush, Quiet: d.core.quiet(), ServerPIDs: d.core.proxy.ServerPIDs, RoundTrips: d.answers.roundTrips, Expect: d.core.stream.Expect, Cover: d.watches.cover, Confirm: func(ctx context.Context, fenced bool) error { return d.watches.watchlist.Confirm(ctx, fenced) },
		Version: d.entry.versions[0], Majors: majors, Late: d.core.migration.Schema.LateChecks,
		Lock: &ports.Prelock{DSN: d.core.cfg.Source, Options: []pg.Option{pg.WithName("pre-lock")}, Watch: d.sessions.link(d.core.cfg.Source, "guard"), Spare: sourceControl}}
	targetControl := d.sessions.link(d.core.cfg.Target, "cutover", key)
	dst := &ports.Target{DSN: d.core.cfg.Target, Key: d.entry.key(), Control: targetControl, Asking: d.sessions.link(d.core.cfg.Target, "register", key),
		Reading:   d.sessions.link(d.core.cfg.Target, "fingerprint", key, pg.WithLockTimeout(ports.DecisionLockTimeout)),
		Direction: machine.Forward, Opens: ports.OpensTarget, Plan: d.decisionSQL, Reached: d.core.stream.MarkerEnd,
		After: d.switched, Last: d.core.migration.Last, Unfinished: d.core.migration.Keys.Unfinished, Left: d.core.left, Whole: d.targetWhole, Quiet: d.core.quiet(), Fenced: src.Fenced.Load, Majors: majors, Late: d.core.migration.Schema.LateChecks,
		Lock: &ports.Prelock{DSN: d.core.cfg.Target, Options: []pg.Option{pg.WithName("pre-lock"), key}, Watch: d.sessions.link(d.core.cfg.Target, "guard"), Spare: targetControl}}
	d.watches.views = d.newViews()
	d.watches.watchlist = watch.New(d.sessions.link(d.core.cfg.Source, "watch", short), d.sessions.link(d.core.cfg.Target, "watch", key, short),
		obs.Component(d.core.log, "watch"), d.watchers()...)
	d.watches.watchlist.Parallel = [2]*dbconn.Link{d.sessions.link(d.core.cfg.Source, "watch definitions", short), d.sessions.link(d.core.cfg.Target, "watch definitions", key, short)}
	d.watches.watchlist.Guards = [2]*dbconn.Link{src.Lock.Watch, dst.Lock.Watch}
	d.core.source, d.core.target, d.sessions.watching, d.sessions.marking = src, dst, d.sessions.link(d.core.cfg.Source, "monitor"), d.sessions.link(d.core.cfg.Target, "settings")
	d.watches.pulse = &watch.Pulse{Links: map[machine.Side]*dbconn.Link{machine.SideSource: d.sessions.sourceActivity, machine.SideTarget: d.sessions.marking}, Failed: d.core.proxy.FailedDials,
		Active: func() (machine.Side, bool) {
			c := d.core.coordinator.Status()
			return c.Active, c.State.Step == machine.Finished
		}}
	var reverse *cutover.Ports
	if d.core.cfg.Change.Fallback {
		w := d.buildWayBack(src, dst)
		d.core.wayBack, dst.Reverse = w, w.back.Prepare
		w.forward = d.follower.forwardLane()
		dst.Opens, dst.Done = passive.Restored+dst.Opens+slot.Speak(journal.Publication), passive.Done
		reverse = &cutover.Ports{Source: w.source, Target: w.target, Replication: w.stream, Verification: d.core.verify}
	}
	d.core.coordinator, err = cutover.New(cutover.Config{
		Reverse: reverse,
		Journal: &ports.Journal{Source: sourceControl, Target: targetControl, Owner: who, Lead: d.entry.mayTake, Finished: d.entry.finishedEpoch, Gone: d.entry.sourceJournalGone},
		Traffic: &ports.Traffic{Proxy: d.core.proxy, Pin: d.pin, Closing: func() { now := time.Now(); d.core.gateClosed.Store(&now) }, Open: d.openProof, Known: d.entry.awaitServing},
		Forward: cutover.Ports{Source: src, Target: dst, Replication: d.core.stream, Verification: d.core.verify},
		Limits:  machine.DefaultLimits(),
		Blocked: d.answers.blocked,
		Log:     obs.Component(d.core.log, "cutover"),
	})
	d.core.users.Roles.Active = func() bool { return d.core.coordinator.Status().Active == machine.SideSource }
	return err
}

func (d *sessions) link(dsn pg.DSN, name string, opts ...pg.Option) *dbconn.Link {
	l := dbconn.New(dsn, append(opts, pg.WithName(name))...)
	d.links = append(d.links, l)
	return l
}

// switched is called after the switch: the applier ends, whose lane is closed, and a start after a
// decision reads the schema's archive again.
func (d *daemon) switched(ctx context.Context) error {
	if err := d.entry.awaitServing(ctx); err != nil {
		return err
	}
	d.core.stream.EndApplier()
	d.core.migration.Task.SetSwitched()
	return d.core.planRead(ctx)
}

// unfinishedSource reports whether something of the work after a fallback was refused.
func (d *core) unfinishedSource() bool {
	s := d.coordinator.Status().State
	return s.Settled && s.Active() == machine.SideSource && s.Phase == machine.PhaseRest && len(d.wayBack.left.Blockers()) > 0
}

// planRead has the schema's archive read, which a start after a decision has not done.
func (d *core) planRead(ctx context.Context) error {
	if d.migration.Schema.HasPlan() {
		return nil
	}
	return d.migration.Schema.ReadPlan(ctx)
}

// decisionSQL is what makes the target react: at the first switch what the archive has, later what was
// set aside when the target was made passive.
func (d *daemon) decisionSQL(ctx context.Context, conn *pgx.Conn) (*plan.DecisionSQL, error) {
	if d.core.wayBack != nil {
		was, err := journal.WasPassive(ctx, conn)
		if err != nil {
			return nil, err
		}
		if was {
			sql, err := passive.Restoration(ctx, conn)
			return &sql, err
		}
	}
	return d.core.migration.Schema.DecisionSQL()
}

// targetWhole records that nothing of the work after a switch is left.
func (d *daemon) targetWhole(ctx context.Context, conn *pgx.Conn) error {
	if err := journal.SetPhase(ctx, conn, journal.PhaseValid); err != nil {
		return err
	}
	d.core.migration.Task.SetValid()
	return nil
}

// unfinished reports whether something of the work after the last switch is left that nobody does: it
// was refused, or an attempt to fall back has ended it.
func (d *core) unfinished() bool {
	s := d.coordinator.Status().State
	return s.Settled && s.Active() == machine.SideTarget && s.Phase == machine.PhaseRest && s.Step != machine.Finished &&
		(len(d.left.Blockers()) > 0 || !d.migration.Task.Reached(journal.PhaseValid))
}

// compared are the tables that the proof covers. A start after a decision reads the schema's
// archive first.
func (d *core) compared(ctx context.Context) ([]verify.Table, error) {
	if err := d.planRead(ctx); err != nil {
		return nil, err
	}
	return d.migration.Schema.Tables(), nil
}

// pin reads the source's settings again, which an ALTER ROLE may have changed.
func (d *daemon) pin(ctx context.Context) error {
	return d.sessions.marking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error { return d.core.users.Pin(ctx, conn, d.core.log) })
}

// serve runs the parts. The coordinator ends first, since it needs the others to undo an attempt.
func (d *daemon) serve(ctx context.Context, server *control.Server, onCopy func(control.Copy)) error {
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	group, parts := errgroup.WithContext(parts)
	group.Go(func() error { return d.core.proxy.Run(parts) })
	group.Go(func() error { return server.Run(parts) })
	group.Go(func() error { return d.entry.join(parts) })
	group.Go(func() error { return d.core.registrar.Run(parts) })
	group.Go(func() error { return d.follower.monitor(parts) })
	group.Go(func() error { return d.watches.pulse.Run(parts) })
	group.Go(func() error { return d.watches.definitions.Run(parts) })
	group.Go(func() error { return d.watches.views.Run(parts) })
	group.Go(func() error { return d.core.comparison.Run(parts) })
	group.Go(func() error { return d.reload(parts) })
	group.Go(func() error { return d.core.target.KeepCompleting(parts, d.core.unfinished) })
	group.Go(func() error { return d.follower.migrate(parts, onCopy) })
	if w := d.core.wayBack; w != nil {
		group.Go(func() error { return w.registrar.Run(parts) })
		group.Go(func() error { return d.leadBack(parts) })
		group.Go(func() error { return w.target.KeepCompleting(parts, d.core.unfinishedSource) })
		group.Go(func() error { return d.keepProving(parts) })
	}
	d.core.log.Info().Str("listen", d.core.proxy.Addr().String()).Str("run", d.entry.id.Target.RunID).Msg("serving")

	leading, stopLeading := context.WithCancel(ctx)
	defer stopLeading()
	go func() { // a part that failed ends the whole
		select {
		case <-parts.Done():
			stopLeading()
		case <-leading.Done():
		}
	}()
	err := d.core.coordinator.Run(leading)
	stopParts()
	if perr := group.Wait(); perr != nil && !errors.Is(perr, context.Canceled) {
		err = errors.Join(err, perr)
	}
	if err != nil {
		return exit.NotComplete(err)
	}
	if failed := d.core.failure(); failed != nil {
		return exit.NotComplete(d.core.explainedEnd(failed))
	}
	return nil
}

// close ends our sessions.
func (d *daemon) close() {
	if d.core.verify != nil {
		d.core.verify.End()
	}
	for _, l := range d.sessions.links {
		l.Close()
	}
	d.entry.lead.Close()
}

func (d *core) fail(err error) {
	d.mu.Lock()
	d.failed = err
	d.mu.Unlock()
	d.log.Error().Err(err).Msg("migration stopped; the applications are served on")
}

// failure is why the migration stopped, nil where it has not.
func (d *core) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}
