package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/preflight"
	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy"
	"crossfade/replicate/extras/largeobject"
	"crossfade/replicate/extras/sequence"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
	"crossfade/schema/roles"
)

// CopyOnce copies a database whose source goes on as it is: schema, data, and
// sequences as one snapshot shows them, without a slot and without a trace on
// the source. It can be called again after a failure; what was copied then stays
// if the source has not moved on, or with KeepCopied. Writes that come behind the
// snapshot are not on the target.
//
// The report is of what was done, with an error too.
func CopyOnce(ctx context.Context, source, target pg.DSN, opts CopyOptions, log zerolog.Logger, onCopy func(control.Copy)) (CopyReport, error) {
	if err := opts.Validate(); err != nil {
		return CopyReport{}, exit.Usage(err)
	}
	shown, end, err := serveCopy(ctx, opts, log)
	if err != nil {
		return CopyReport{}, err
	}
	defer end()
	opts.shown = shown
	if opts.AllDatabases {
		return copyAll(ctx, source, target, opts, log, onCopy)
	}
	one := copyDatabase(ctx, source, target, opts, log, onCopy)
	return CopyReport{Databases: []DatabaseReport{one}}, one.Err
}

// copyDatabase copies one database and says what became of it.
func copyDatabase(ctx context.Context, source, target pg.DSN, opts CopyOptions, log zerolog.Logger, onCopy func(control.Copy)) DatabaseReport {
	begun := time.Now()
	r := DatabaseReport{Source: source.Database(), Target: target.Database()}
	m, err := copyOne(ctx, source, target, opts, log, onCopy)
	if m != nil {
		r.fill(m)
	}
	r.Err, r.Took = err, time.Since(begun)
	return r
}

// copyOne copies one database. The migration is nil where none was begun.
func copyOne(ctx context.Context, source, target pg.DSN, opts CopyOptions, log zerolog.Logger, onCopy func(control.Copy)) (*migration, error) {
	cfg := Config{Source: source, Target: target, Jobs: opts.Jobs, Listen: "127.0.0.1:0",
		LargeObjects: opts.LargeObjects, SourceLockTimeout: defaultLockTimeout, HoldLimit: time.Second, ShutdownTimeout: time.Second}
	if err := cfg.Validate(); err != nil {
		return nil, exit.Usage(err)
	}
	c := &copySessions{source: source, target: target, incarnation: rand.Text()[:incarnationLetters], log: log}
	defer c.close()
	var m *migration
	err := whileAway(ctx, log, func(ctx context.Context, letIn func()) (err error) {
		c.close()
		c.tag("")
		if err := c.open(ctx); err != nil {
			return err
		}
		letIn()
		m, err = openCopy(ctx, c, cfg, opts, log)
		return err
	})
	if err != nil {
		return nil, stopped(ctx, err, "nothing was copied")
	}
	m.limit = opts.shown.limit
	opts.shown.show(m)
	stop := m.watch(ctx, onCopy)
	err = m.copyWhole(ctx, c)
	stop()
	var refused *refusal
	if errors.As(err, &refused) && m.id.Fresh {
		return nil, errors.Join(err, c.takeBack(ctx))
	}
	if err != nil && ctx.Err() != nil {
		return m, stopped(ctx, err, m.stays())
	}
	if errors.As(err, new(*refusedError)) { // it has words of its own
		return m, exit.NotComplete(err)
	}
	if err != nil {
		return m, exit.NotComplete(m.explained(m.namingRow(ctx, err), goOnCopy))
	}
	return m, nil
}

// copyWhole takes the copy to its end. A database that goes away for a while, such as a compute
// that is suspended, is waited for: the copy itself does so, and what comes behind it is
// begun again. Before, the copy's snapshot would be lost.
func (m *migration) copyWhole(ctx context.Context, c *copySessions) error {
	policy := retry.Policy{MaxElapsed: copy.DefaultPatience, OnRetry: obs.Retrying(m.log, "copy goes on")}
	return retry.Do(ctx, policy, func(ctx context.Context) error {
		err := m.run(ctx, false)
		if err == nil {
			err = c.alive(ctx) // of which a long copy may have cost one
		}
		if err == nil {
			err = m.endCopy(ctx, c.s, c.t)
		}
		if err != nil && (!m.reached(journal.PhaseCopied) || !watch.Passing(err)) {
			return retry.Permanent(err)
		}
		return err
	})
}

// openCopy finds or begins the copy's run on the target.
func openCopy(ctx context.Context, c *copySessions, cfg Config, opts CopyOptions, log zerolog.Logger) (*migration, error) {
	s, t := c.s, c.t
	id, err := runs.Find(ctx, s, t, cfg.Source, cfg.Target)
	if err != nil {
		return nil, err
	}
	if id.Source != nil || id.Target != nil && id.Target.Mode != runs.ModeCopy {
		return nil, runs.RefuseOtherKind(ctx, s, t)
	}
	if id.Target != nil && id.Target.Options != opts.kept() {
		return nil, fmt.Errorf("a copy with other flags was broken off here: to go on: %s; or to give it up: crossfade clean, which drops all that it has copied", strings.TrimSpace("crossfade copy "+id.Target.Options))
	}
	if id.Target != nil {
		if err := refuseMarked(ctx, t); err != nil {
			return nil, err
		}
	}
	if id.Target == nil {
		if err := refuseBlocked(ctx, cfg, preflight.Options{Mode: preflight.Copy, LargeObjects: opts.LargeObjects}, opts, log); err != nil {
			return nil, err
		}
		if err := runs.Install(ctx, s, t, &id, cfg.Source, runs.ModeCopy, opts.kept()); err != nil {
			return nil, err
		}
	} else if !id.Target.Phase.AtLeast(journal.PhaseCopied) {
		if _, err := largeobject.Forget(ctx, t); err != nil {
			return nil, fmt.Errorf("begin the copy again: %w", err)
		}
	}
	c.tag(id.Target.RunID)
	return &migration{source: c.tagged[0], target: c.tagged[1], id: id, jobs: cfg.Jobs, opts: opts, lockTimeout: cfg.SourceLockTimeout,
		roles: map[string]string{cfg.Source.User(): cfg.Target.User()}, log: log, phase: id.Target.Phase}, nil
}

// endCopy makes the target whole and removes our schema from it.
func (m *migration) endCopy(ctx context.Context, source, target *pgx.Conn) error {
	var snapshots int
	if err := target.QueryRow(ctx, `SELECT count(DISTINCT snapshot) FROM crossfade.relation`).Scan(&snapshots); err != nil {
		return fmt.Errorf("check the snapshots: %w", err)
	}
	if snapshots > 1 && !m.opts.KeepCopied {
		return errors.New("the tables on the target are not of one moment: start over with crossfade clean, or accept it with --keep-copied")
	}
	if _, err := journal.DropFence(ctx, target, journal.Patience{LockTimeout: m.lockTimeout, Together: journal.Together}); err != nil {
		return err
	}
	if err := m.setSequences(ctx, source, target); err != nil {
		return err
	}
	if m.opts.DataOnly {
		refused, err := putBack(ctx, target, m.goesOn())
		m.refuse(stageAside, refused)
		if err != nil {
			return err
		}
		return m.leave(ctx, target)
	}
	if err := m.foreignKeys(ctx); err != nil {
		return err
	}
	other := func(e *archive.Entry) bool { return e.Kind != kindForeignKey }
	if err := m.restoreWith(ctx, plan.Decision, restore.Config{Conns: []*pgx.Conn{target}, Only: other}); err != nil {
		return err
	}
	if err := m.restore(ctx, plan.Last, []*pgx.Conn{target}); err != nil {
		return err
	}
	if err := restore.Run(ctx, target, plan.IdentityAlways(m.catalog)); err != nil {
		return err
	}
	if err := m.roleSettings(ctx, source, target); err != nil {
		return err
	}
	return m.leave(ctx, target)
}

// leave removes our schema from the target, unless something is left to be done.
func (m *migration) leave(ctx context.Context, target *pgx.Conn) error {
	if err := m.incomplete(ctx, target); err != nil {
		return err
	}
	return journal.Uninstall(ctx, target)
}

// setSequences takes over the positions of the sequences that are copied.
func (m *migration) setSequences(ctx context.Context, source, target *pgx.Conn) error {
	if m.opts.SchemaOnly {
		return nil
	}
	takes := m.takesSequence
	if m.opts.Filter.IsZero() {
		takes = func(pg.Name) bool { return true }
	}
	states, err := sequence.ReadOf(ctx, source, takes)
	if err != nil {
		return err
	}
	_, err = sequence.Set(ctx, target, states)
	return err
}

// roleSettings carries over what ALTER ROLE … SET has given the roles that the
// target has others for.
func (m *migration) roleSettings(ctx context.Context, source, target *pgx.Conn) error {
	findings, err := roles.CopySettings(ctx, source, target, m.roles)
	m.note(findings)
	return err
}

// copyEvery is how often the figures of a copy are handed on.
const copyEvery = 200 * time.Millisecond

// watch hands the copy's figures on until it is stopped.
func (m *migration) watch(ctx context.Context, onCopy func(control.Copy)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(copyEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				m.tell(onCopy)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		m.tell(onCopy)
	}
}

func (m *migration) tell(onCopy func(control.Copy)) {
	if c := m.copied(); onCopy != nil && c.TablesTotal > 0 {
		onCopy(c)
	}
}

// copied returns how far the copy is.
func (m *migration) copied() control.Copy {
	m.mu.Lock()
	c := m.copier
	m.mu.Unlock()
	if c == nil {
		return control.Copy{}
	}
	p := c.Progress()
	return control.Copy{TablesDone: p.TablesDone, TablesTotal: p.TablesTotal, BytesDone: p.BytesDone, BytesTotal: p.BytesTotal, RowsDone: p.RowsDone,
		TablesRestarted: p.Restarts, TablesRepaired: p.Repaired, KeysRepaired: p.RepairedKeys}
}
