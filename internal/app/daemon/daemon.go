package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/proxy"
	"crossfade/proxy/tlsconf"
	"crossfade/replicate/verify"
	"crossfade/schema/plan"
)

// daemon is one run of `crossfade run`.
type daemon struct {
	cfg         Config
	log         zerolog.Logger
	incarnation string // names this process in the journal

	users       *logins.Users
	id          runs.Identity
	plain       [2]pg.DSN // source and target as they were given, where cfg has them with the run's tag
	lead        *runs.Leader
	versions    [2]int  // server_version_num of source and target
	lastEpoch   int64   // of a run that an earlier start has finished
	missing     string  // the side that was away at the start, "" for none
	joining     joining // what is to be done when it comes
	proxy       *proxy.Proxy
	migration   *migration
	stream      *following
	coordinator *cutover.Coordinator
	verify      *verification
	links       []*dbconn.Link
	registrar   *registrar
	source      *sourcePort
	target      *targetPort
	cover       *watch.Coverage
	members     *watch.Members
	guard       *watch.Guard
	left        *completion
	watchlist   *watch.List
	gateClosed  atomic.Pointer[time.Time] // for the attempt under way
	views       *matViews
	strangers   watch.TargetWriters
	definitions *definitions
	pulse       *watch.Pulse
	watching    *dbconn.Link // of the monitor
	marking     *dbconn.Link // to the target, for what is kept there
	looking     *dbconn.Link // to the source, for what its sessions do

	mu            sync.Mutex
	failed        error // why the migration stopped
	stuck         error // why it waits
	contention    *contention
	away          error // why the side that was away at the start is not there yet
	stopMigration context.CancelCauseFunc
}

// Run serves the applications and moves the database, until ctx ends. onCopy, if
// set, is called with the figures of the copy.
func Run(ctx context.Context, cfg Config, log zerolog.Logger, onCopy func(control.Copy)) error {
	if err := cfg.Validate(); err != nil {
		return exit.Usage(err)
	}
	if err := refuseHostLists(cfg); err != nil {
		return exit.Usage(err)
	}
	d := &daemon{cfg: cfg, log: log, incarnation: rand.Text(), plain: [2]pg.DSN{cfg.Source, cfg.Target}, lead: runs.NewLeader(cfg.Source, log), joining: newJoining(),
		stream: newFollowing(), cover: &watch.Coverage{}, members: &watch.Members{LockTimeout: cfg.SourceLockTimeout, Log: log}, guard: watch.NewGuard(watch.GuardConfig{Source: cfg.Source, MaxRate: cfg.MaxRate, WALBudget: cfg.WALBudget}, log),
		left: &completion{log: obs.Component(log, "completion")}}
	var err error
	if d.users, err = logins.Load(cfg.logins(), log); err != nil {
		return err
	}
	d.users.Roles.Asking = d.link(cfg.Source, "logins")
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
	server, err := control.Listen(control.Config{Socket: cfg.Control, HTTP: cfg.HTTP, Daemon: d, Metrics: obs.MetricsHandler(metrics), Log: log})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := d.open(ctx); err != nil {
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
func refuseHostLists(cfg Config) error {
	for flag, d := range map[string]pg.DSN{"--source": cfg.Source, "--target": cfg.Target} {
		if n := d.Hosts(); n > 1 {
			return fmt.Errorf("%s names %d hosts, and a run is between two servers: name the one that is written to", flag, n)
		}
	}
	return nil
}

// withoutNoise keeps the words of a listener's error that say why.
func withoutNoise(err error) error {
	var oe *net.OpError
	if errors.As(err, &oe) {
		return oe.Err
	}
	return err
}

// build makes the parts and connects them.
func (d *daemon) build(listener net.Listener, cert *tlsconf.Server, metrics prometheus.Registerer) error {
	source, target := d.users.Endpoints()
	pc := proxy.Config{Listener: listener, Auth: d.users, TLS: cert, RequireCertificate: d.cfg.ClientAuth == logins.ClientAuthCert, Source: source, Target: target, Closed: true, Metrics: metrics,
		TrackSettings: d.cfg.trackSettings(), Limits: proxy.Limits{HoldLimit: d.cfg.HoldLimit, ShutdownTimeout: d.cfg.ShutdownTimeout},
		User: d.cfg.Source.User(), Database: d.cfg.Source.Database(), Types: &typeStore{target: d.link(d.cfg.Target, "types", pg.WithKeyFrom(d.key))}, Log: obs.Component(d.log, "proxy")}
	d.looking = d.link(d.cfg.Source, "look")
	pc.Explain = d.explain
	var err error
	if d.proxy, err = proxy.New(pc); err != nil {
		return err
	}
	key := pg.WithKeyFrom(d.key)
	d.migration = &migration{source: d.cfg.Source, target: d.cfg.Target, id: d.id, jobs: d.cfg.Jobs, chunkBytes: d.cfg.ChunkBytes, lockTimeout: d.cfg.SourceLockTimeout, waits: true,
		opts:  d.cfg.copyOptions(),
		roles: d.cfg.logins().SchemaRoles(), log: obs.Component(d.log, "migration"), phase: d.id.Target.Phase, limit: d.guard.Limit, onBlocked: d.guard.Blocked}
	d.definitions = newDefinitions(d.migration, d.link(d.cfg.Source, "definitions", pg.WithLockTimeout(d.cfg.SourceLockTimeout)), d.link(d.cfg.Target, "definitions", key),
		[2]*dbconn.Link{d.link(d.cfg.Source, "definitions guard"), d.link(d.cfg.Target, "definitions guard", key)}, obs.Component(d.log, "definitions"))
	d.verify = &verification{source: d.cfg.Source, target: d.cfg.Target, tables: d.compared, path: d.migration.searchPath, journal: d.link(d.cfg.Target, "proof"), log: obs.Component(d.log, "verify")}
	d.registrar = &registrar{incarnation: d.incarnation, control: d.link(d.cfg.Source, "register"), pids: d.sourcePIDs}

	who := &owner{}
	majors := [2]int{d.versions[0] / 10000, d.versions[1] / 10000}
	short := pg.WithLockTimeout(d.cfg.SourceLockTimeout)
	sourceControl := d.link(d.cfg.Source, "cutover")
	src := &sourcePort{owner: who, incarnation: d.incarnation, lockTimeout: d.cfg.SourceLockTimeout, control: sourceControl,
		census: d.link(d.cfg.Source, "census", short), reading: d.link(d.cfg.Source, "sequences", short), register: d.registrar.flush, quiet: d.quiet(), serverPIDs: d.proxy.ServerPIDs, roundTrips: d.roundTrips, expect: d.stream.expect, cover: d.cover, confirm: d.confirm,
		version: d.versions[0], majors: majors, late: d.migration.lateChecks,
		pre: &prelock{dsn: d.cfg.Source, opts: []pg.Option{pg.WithName("pre-lock")}, watch: d.link(d.cfg.Source, "guard"), spare: sourceControl}}
	targetControl := d.link(d.cfg.Target, "cutover", key)
	dst := &targetPort{dsn: d.cfg.Target, key: d.key(), control: targetControl, asking: d.link(d.cfg.Target, "register", key),
		reading: d.link(d.cfg.Target, "fingerprint", key, pg.WithLockTimeout(decisionLockTimeout)),
		plan:    func() (*plan.DecisionSQL, error) { return d.migration.decisionSQL() }, reached: d.stream.markerEnd,
		after: d.switched, last: d.migration.last, unfinished: d.migration.unfinished, left: d.left, complete: d.migration.setValid, quiet: d.quiet(), fenced: src.fenced.Load, majors: majors, late: d.migration.lateChecks,
		pre: &prelock{dsn: d.cfg.Target, opts: []pg.Option{pg.WithName("pre-lock"), key}, watch: d.link(d.cfg.Target, "guard"), spare: targetControl}}
	d.views = newMatViews(d)
	d.watchlist = watch.New(d.link(d.cfg.Source, "watch", short), d.link(d.cfg.Target, "watch", key, short),
		obs.Component(d.log, "watch"), d.watchers()...)
	d.watchlist.Besides = [2]*dbconn.Link{d.link(d.cfg.Source, "watch definitions", short), d.link(d.cfg.Target, "watch definitions", key, short)}
	d.watchlist.Guards = [2]*dbconn.Link{src.pre.watch, dst.pre.watch}
	d.source, d.target, d.watching, d.marking = src, dst, d.link(d.cfg.Source, "monitor"), d.link(d.cfg.Target, "settings")
	d.pulse = &watch.Pulse{Links: map[machine.Side]*dbconn.Link{machine.SideSource: d.looking, machine.SideTarget: d.marking}, Failed: d.proxy.FailedDials,
		Active: func() (machine.Side, bool) {
			c := d.coordinator.Status()
			return c.Active, c.State.Step == machine.Finished
		}}
	d.coordinator, err = cutover.New(cutover.Config{
		Journal: &journalPort{control: sourceControl, owner: who, lead: d.mayTake, finished: d.finishedEpoch, gone: d.sourceJournalGone},
		Traffic: &trafficPort{proxy: d.proxy, pin: d.pin, closing: func() { now := time.Now(); d.gateClosed.Store(&now) }, open: d.openProof, known: d.awaitServing},
		Forward: cutover.Ports{Source: src, Target: dst, Replication: d.stream, Verification: d.verify},
		Limits:  machine.DefaultLimits(),
		Blocked: d.blocked,
		Log:     obs.Component(d.log, "cutover"),
	})
	d.users.Roles.Active = func() bool { return d.coordinator.Status().Active == machine.SideSource }
	return err
}

// sourcePIDs are the proxy's server connections on the source, none while the
// target is active.
func (d *daemon) sourcePIDs() []int32 {
	if d.coordinator.Status().Active != machine.SideSource {
		return nil
	}
	return d.proxy.ServerPIDs()
}

func (d *daemon) link(dsn pg.DSN, name string, opts ...pg.Option) *dbconn.Link {
	l := dbconn.New(dsn, append(opts, pg.WithName(name))...)
	d.links = append(d.links, l)
	return l
}

// switched is called behind the switch: the applier ends, whose lane is closed,
// and a start behind a decision reads the schema's archive again.
func (d *daemon) switched(ctx context.Context) error {
	if err := d.awaitServing(ctx); err != nil {
		return err
	}
	d.stream.endApplier()
	if d.migration.hasPlan() {
		return nil
	}
	return d.migration.readPlan(ctx)
}

// decided reports whether the target is the active side for good and the run not finished.
func (d *daemon) decided() bool { return d.coordinator.Status().State.Step == machine.Decided }

// compared are the tables that the proof covers. A start behind a decision reads the
// schema's archive first.
func (d *daemon) compared(ctx context.Context) ([]verify.Table, error) {
	if !d.migration.hasPlan() {
		if err := d.migration.readPlan(ctx); err != nil {
			return nil, err
		}
	}
	return d.migration.tables(), nil
}

// pin reads the source's settings again, which an ALTER ROLE may have changed.
func (d *daemon) pin(ctx context.Context) error {
	return d.marking.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error { return d.users.Pin(ctx, conn, d.log) })
}

// serve runs the parts. The coordinator ends first, since it needs the others to
// undo an attempt.
func (d *daemon) serve(ctx context.Context, server *control.Server, onCopy func(control.Copy)) error {
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	group, parts := errgroup.WithContext(parts)
	group.Go(func() error { return d.proxy.Run(parts) })
	group.Go(func() error { return server.Run(parts) })
	group.Go(func() error { return d.join(parts) })
	group.Go(func() error { return d.registrar.run(parts) })
	group.Go(func() error { return d.monitor(parts) })
	group.Go(func() error { return d.pulse.Run(parts) })
	group.Go(func() error { return d.definitions.run(parts) })
	group.Go(func() error { return d.views.run(parts) })
	group.Go(func() error { return d.reload(parts) })
	group.Go(func() error { return d.target.keepCompleting(parts, d.decided) })
	group.Go(func() error { return d.migrate(parts, onCopy) })
	d.log.Info().Str("listen", d.proxy.Addr().String()).Str("run", d.id.Target.RunID).Msg("serving")

	leading, stopLeading := context.WithCancel(ctx)
	defer stopLeading()
	go func() { // a part that failed ends the whole
		select {
		case <-parts.Done():
			stopLeading()
		case <-leading.Done():
		}
	}()
	err := d.coordinator.Run(leading)
	stopParts()
	if perr := group.Wait(); perr != nil && !errors.Is(perr, context.Canceled) {
		err = errors.Join(err, perr)
	}
	if err != nil {
		return exit.NotComplete(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return exit.NotComplete(d.explainedEnd(d.failed))
	}
	return nil
}

// close ends our sessions.
func (d *daemon) close() {
	if d.verify != nil {
		d.verify.end()
	}
	for _, l := range d.links {
		l.Close()
	}
	d.lead.Close()
}

func (d *daemon) fail(err error) {
	d.mu.Lock()
	d.failed = err
	d.mu.Unlock()
	d.log.Error().Err(err).Msg("migration stopped; the applications are served on")
}
