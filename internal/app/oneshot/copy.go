package oneshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"crossfade/cutover/preflight"
	"crossfade/internal/app/check"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy"
	"crossfade/replicate/extras/largeobject"
)

// Copy copies a database whose source stays in use: schema, data, and sequences as one snapshot
// shows them, without a slot and without a trace on the source. It can be called again after a
// failure; what was copied then is kept if the source has not changed since, or with KeepCopied.
// Writes after the snapshot are not on the target.
//
// The report says what was done, with an error too.
func Copy(ctx context.Context, source, target pg.DSN, opts options.Copy, log zerolog.Logger, onCopy func(control.Copy)) (Report, error) {
	if err := opts.Validate(); err != nil {
		return Report{}, exit.Usage(err)
	}
	shown, end, err := serveCopy(ctx, opts, log)
	if err != nil {
		return Report{}, err
	}
	defer end()
	if opts.AllDatabases {
		return copyAll(ctx, source, target, opts, shown, log, onCopy)
	}
	one := copyDatabase(ctx, source, target, opts, shown, log, onCopy)
	return Report{Databases: []DatabaseReport{one}}, one.Err
}

// copyDatabase copies one database and says what became of it.
func copyDatabase(ctx context.Context, source, target pg.DSN, opts options.Copy, shown *copyControl, log zerolog.Logger, onCopy func(control.Copy)) DatabaseReport {
	begun := time.Now()
	r := DatabaseReport{Source: source.Database(), Target: target.Database()}
	m, err := copyOne(ctx, source, target, opts, shown, log, onCopy)
	if m != nil {
		r.fill(m)
	}
	r.Err, r.Took = err, time.Since(begun)
	return r
}

// copyOne copies one database. The migration is nil where none was begun.
func copyOne(ctx context.Context, source, target pg.DSN, opts options.Copy, shown *copyControl, log zerolog.Logger, onCopy func(control.Copy)) (*migration.Migration, error) {
	cfg := options.Run{Source: source, Target: target, Jobs: opts.Jobs, Listen: "127.0.0.1:0",
		LargeObjects: opts.LargeObjects, SourceLockTimeout: options.DefaultLockTimeout, HoldLimit: time.Second, ShutdownTimeout: time.Second}
	if err := cfg.Validate(); err != nil {
		return nil, exit.Usage(err)
	}
	c := &copySessions{source: source, target: target, incarnation: rand.Text()[:runs.IncarnationLetters], log: log}
	defer c.close()
	var m *migration.Migration
	err := dbconn.WhileAway(ctx, log, func(ctx context.Context, letIn func()) (err error) {
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
	m.Rows.Limit = shown.limit
	shown.show(m)
	stop := m.Rows.Watch(ctx, onCopy)
	err = copyWhole(ctx, m, c)
	stop()
	var refused *migration.Refusal
	if errors.As(err, &refused) && m.Task.Identity.Fresh {
		return nil, errors.Join(err, c.takeBack(ctx))
	}
	if err != nil && ctx.Err() != nil {
		return m, stopped(ctx, err, m.Stays())
	}
	if errors.As(err, new(*migration.RefusedError)) { // it has its own message
		return m, exit.NotComplete(err)
	}
	if err != nil {
		return m, exit.NotComplete(m.Explained(m.NamingRow(ctx, err), migration.GoOnCopy))
	}
	return m, nil
}

// copyWhole takes the copy to its end. A database that goes away for a while, such as a compute
// that is suspended, is waited for: the copy itself does so, and what follows it is repeated.
// Before the copy that is impossible: its snapshot would be lost.
func copyWhole(ctx context.Context, m *migration.Migration, c *copySessions) error {
	policy := retry.Policy{MaxElapsed: copy.DefaultPatience, OnRetry: obs.Retrying(m.Task.Log, "copy continues")}
	return retry.Do(ctx, policy, func(ctx context.Context) error {
		err := m.Run(ctx, false)
		if err == nil {
			err = c.alive(ctx) // a long copy may have cost one of them
		}
		if err == nil {
			err = m.EndCopy(ctx, c.s, c.t)
		}
		if err != nil && (!m.Task.Reached(journal.PhaseCopied) || !watch.Passing(err)) {
			return retry.Permanent(err)
		}
		return err
	})
}

// openCopy finds or begins the copy's run on the target.
func openCopy(ctx context.Context, c *copySessions, cfg options.Run, opts options.Copy, log zerolog.Logger) (*migration.Migration, error) {
	s, t := c.s, c.t
	id, err := runs.Find(ctx, s, t, cfg.Source, cfg.Target)
	if err != nil {
		return nil, err
	}
	if id.Source != nil || id.Target != nil && id.Target.Mode != runs.ModeCopy {
		return nil, runs.RefuseOtherKind(ctx, s, t)
	}
	if id.Target != nil && id.Target.Options != opts.Kept() {
		return nil, fmt.Errorf("a copy with other flags was interrupted here: to continue: %s; or to give it up: crossfade clean, which drops all that it has copied", strings.TrimSpace("crossfade copy "+id.Target.Options))
	}
	if id.Target != nil {
		if err := migration.RefuseMarked(ctx, t); err != nil {
			return nil, err
		}
	}
	if id.Target == nil {
		if err := check.Refuse(ctx, cfg, preflight.Options{Mode: preflight.Copy, LargeObjects: opts.LargeObjects}, opts, log); err != nil {
			return nil, err
		}
		if err := runs.Install(ctx, s, t, &id, cfg.Source, runs.ModeCopy, opts.Kept()); err != nil {
			return nil, err
		}
	} else if !id.Target.Phase.AtLeast(journal.PhaseCopied) {
		if _, err := largeobject.Forget(ctx, t); err != nil {
			return nil, fmt.Errorf("begin the copy again: %w", err)
		}
	}
	c.tag(id.Target.RunID)
	return migration.New(migration.Config{Source: c.tagged[0], Target: c.tagged[1], Identity: id, Jobs: cfg.Jobs, Options: opts, LockTimeout: cfg.SourceLockTimeout,
		Roles: map[string]string{cfg.Source.User(): cfg.Target.User()}, Log: log, Phase: id.Target.Phase}), nil
}
