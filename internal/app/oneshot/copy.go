package oneshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/app/check"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy"
	"crossfade/replicate/extras/largeobject"
	"crossfade/schema/finding"
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
	m.Task.Limit = shown.limit
	shown.migration.Store(m)
	stop := m.Rows.Watch(ctx, onCopy)
	err = copyWhole(ctx, m, c)
	stop()
	if errors.As(err, new(*migration.Refusal)) && m.Task.Identity.Fresh {
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
	if id.Target == nil {
		if err := check.Refuse(ctx, cfg, inquiry.Options{Mode: inquiry.Copy, LargeObjects: opts.LargeObjects}, opts, log); err != nil {
			return nil, err
		}
		if err := runs.Install(ctx, s, t, &id, cfg.Source, runs.ModeCopy, opts.Kept()); err != nil {
			return nil, err
		}
	} else if err := migration.RefuseMarked(ctx, t); err != nil {
		return nil, err
	} else if !id.Target.Phase.AtLeast(journal.PhaseCopied) {
		if _, err := largeobject.Forget(ctx, t); err != nil {
			return nil, fmt.Errorf("begin the copy again: %w", err)
		}
	}
	c.tag(id.Target.RunID)
	return migration.New(migration.Config{Source: c.tagged[0], Target: c.tagged[1], Identity: id, Jobs: cfg.Jobs, Options: opts, LockTimeout: cfg.SourceLockTimeout,
		Roles: map[string]string{cfg.Source.User(): cfg.Target.User()}, Log: log, Phase: id.Target.Phase}), nil
}

// copySessions are the two sessions that a one-shot copy keeps: to the source, and to the target,
// where it holds the leader's lock. It is used by one goroutine.
type copySessions struct {
	source, target pg.DSN    // as they were given
	tagged         [2]pg.DSN // the same with what tells which start a session belongs to
	incarnation    string
	log            zerolog.Logger
	s, t           *pgx.Conn
}

// tag makes the sessions that are opened from now on say which run and start they belong to.
func (c *copySessions) tag(run string) {
	tag := journal.Tag(run, c.incarnation)
	c.tagged = [2]pg.DSN{c.source.WithTag(tag), c.target.WithTag(tag)}
}

// open opens both sessions, becomes the leader of the target, and ends what an earlier start has
// left in both databases, before anything else is checked.
func (c *copySessions) open(ctx context.Context) (err error) {
	if c.s, err = pg.Connect(ctx, c.tagged[0], pg.WithName("control")); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if c.t, err = pg.Connect(ctx, c.tagged[1], pg.WithName("control")); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if err := onedatabase.Refuse(ctx, c.s, c.t); err != nil {
		return err
	}
	if err := runs.LeadSoon(ctx, c.t, c.log); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	run, err := journal.LoadTarget(ctx, c.t)
	if err != nil || run != nil && run.Mode != runs.ModeCopy { // findRun says so
		return err
	}
	name := ""
	if run != nil {
		name = run.RunID
	}
	return runs.EndPredecessors(ctx, c.log, name, c.incarnation, c.s, c.t)
}

// alive opens those again that have been lost. An error that is worth another try may come of it.
func (c *copySessions) alive(ctx context.Context) (err error) {
	if c.s == nil || c.s.Ping(ctx) != nil {
		dbconn.CloseNow(c.s)
		if c.s, err = pg.Connect(ctx, c.tagged[0], pg.WithName("control")); err != nil {
			return fmt.Errorf("source: %w", err)
		}
	}
	if c.t != nil && c.t.Ping(ctx) == nil {
		return nil
	}
	dbconn.CloseNow(c.t)
	if c.t, err = pg.Connect(ctx, c.tagged[1], pg.WithName("control")); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return pg.Wrap(runs.LeadSoon(ctx, c.t, c.log), "target")
}

// takeBack removes what a refused beginning made on the target.
func (c *copySessions) takeBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbconn.CloseTimeout)
	defer cancel()
	if err := c.alive(ctx); err != nil {
		return err
	}
	return journal.Uninstall(ctx, c.t)
}

func (c *copySessions) close() {
	for _, conn := range []*pgx.Conn{c.s, c.t} {
		dbconn.CloseNow(conn)
	}
	c.s, c.t = nil, nil
}

// stopped says of an error that came of the end of ctx that someone asked for that, and what stays.
func stopped(ctx context.Context, err error, what string) error {
	if ctx.Err() == nil {
		return err
	}
	return exit.NotComplete(&stoppedError{what: what, cause: errors.Join(err, ctx.Err())})
}

type stoppedError struct {
	what  string
	cause error
}

func (e *stoppedError) Error() string { return "stopped as asked: " + e.what }
func (e *stoppedError) Unwrap() error { return e.cause }

// CopyReport says what a one-shot copy did.
type Report struct {
	Databases []DatabaseReport
}

// DatabaseReport says what became of one database.
type DatabaseReport struct {
	Source, Target string // names
	Tables         int    // whose rows were to be copied
	Rows, Bytes    int64  // copied by this start, as COPY counts them
	Notes          []string
	Refused        []string // what the target has refused, where all else was copied
	Skipped        string   // why it was not copied, "" where it was
	Took           time.Duration
	Err            error
}

func (r *DatabaseReport) fill(m *migration.Migration) {
	c := m.Rows.Copied()
	r.Refused = lists.Map(m.Findings.Refusals(), finding.Finding.String)
	r.Tables, r.Rows, r.Bytes = c.TablesTotal, c.RowsDone, c.BytesDone
	r.Notes = append(r.Notes, m.Notes()...)
}
