package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/compare"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/verify"
)

// errGaveWay is the end of a comparison that a cutover has stopped: nothing may hold the stream, or
// read at full length, in a pause (C21).
var errGaveWay = errors.New("it gave way to a cutover")

// newComparison makes the comparison that operators ask for while the target follows.
func (d *daemon) newComparison(key pg.Option) *compare.Job {
	connect := func(dsn pg.DSN) snapshot.Connect {
		return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn, pg.WithName("verify")) }
	}
	source, target := d.core.cfg.Source, d.core.cfg.Target
	return compare.New(compare.Config{
		Direction: string(machine.Forward), From: d.sessions.link(source, "verify"), To: d.sessions.link(target, "verify", key), Journal: d.sessions.link(target, "verify journal"),
		Pair: func(waits func(string)) func(context.Context) (*verify.Frozen, error) {
			f := &verify.Following{From: connect(source), To: connect(target), SlotPrefix: d.entry.identity().Target.Slot, Stream: d.comparable, Waits: waits,
				Replication: func(ctx context.Context) (*pgconn.PgConn, error) {
					return pg.ConnectReplication(ctx, source, pg.WithName("verify"))
				}}
			return f.Freeze
		},
		Tables: d.core.compared, Path: d.core.migration.Schema.SearchPath, Sizes: d.core.migration.Schema.Sizes, LateChecks: d.core.migration.Schema.LateChecks,
		MaxAge: d.core.cfg.Change.VerifyMaxAge, LockTimeout: d.core.cfg.SourceLockTimeout, Log: obs.Component(d.core.log, "verify"),
	})
}

// comparable returns the stream for a comparison, or why there can be none now. It is asked before
// each pair: an attempt that has begun since the comparison was asked for ends it, whichever of the
// two sees the other first.
func (d *daemon) comparable() (verify.Stream, error) {
	if step := d.core.coordinator.Status().State.Step; !followingStep(step) {
		return nil, errGaveWay
	}
	return d.core.stream.Stream()
}

// followingStep reports whether the target follows and no attempt to change sides is under way.
func followingStep(step machine.StepName) bool {
	return step == machine.Following || step == machine.Idle
}

// giveWay stops a comparison before a pause.
func (d *daemon) giveWay(ctx context.Context) error {
	_, err := d.core.comparison.Stop(ctx, errGaveWay)
	return err
}

// Verify implements control.Daemon.
func (d *answers) Verify(ctx context.Context) (control.VerifyReport, error) {
	s := d.core.coordinator.Status()
	if err := d.refuseVerify(s); err != nil {
		return control.VerifyReport{}, err
	}
	if s.Active == machine.SideTarget {
		return d.proved(ctx)
	}
	report, err := d.core.comparison.Verify(ctx)
	if err != nil && ctx.Err() == nil {
		err = &control.Error{Code: control.CodeIncomplete, Message: "the comparison could not be completed: " + err.Error(), Remedy: "what was compared is kept: crossfade verify continues it"}
	}
	return report, err
}

// refuseVerify says why both sides cannot be compared now.
func (d *answers) refuseVerify(s cutover.Status) error {
	switch away := d.entry.awayBlocker(); {
	case s.State.Step == machine.Finished:
		return control.Refused("the migration is finished: the source is not compared any more", "compare two databases at rest with crossfade verify --source --target")
	case away != nil:
		return control.Refused(away.Detail, "make it reachable and run this again")
	case s.Active != machine.SideTarget && !followingStep(s.State.Step):
		return control.Refused(fmt.Sprintf("the two sides cannot be compared in the phase %s", s.Phase), "wait until crossfade status shows the phase following")
	}
	return nil
}

// provedPoll is how often it is looked whether the comparison after a switch has ended.
const provedPoll = 200 * time.Millisecond

// proved waits for the comparison that follows a switch, and returns its result.
func (d *answers) proved(ctx context.Context) (control.VerifyReport, error) {
	for range retry.Poll(ctx, provedPoll) {
		if d.core.verify.Ended() {
			break
		}
	}
	if ctx.Err() != nil {
		return control.VerifyReport{}, ctx.Err()
	}
	report := control.VerifyReport{Tables: d.core.verify.Status().TablesTotal}
	for _, t := range verifyTables(d.core.verify.Unproved()) {
		report.Differences = append(report.Differences, control.VerifyDifference{Kind: "table", Name: t.Table, Verdict: t.Verdict, Reason: t.Reason, Keys: t.Keys})
	}
	behind, n, err := dbconn.Ask2(ctx, d.sessions.sourceActivity, d.sessions.marking, compare.Sequences)
	if err != nil {
		return control.VerifyReport{}, &control.Error{Code: control.CodeIncomplete, Message: "the sequences could not be compared: " + err.Error(), Remedy: "make both sides reachable, then run crossfade verify again"}
	}
	report.Sequences, report.Differences = n, append(report.Differences, behind...)
	report.Judge()
	return report, nil
}

// StopVerify implements control.Daemon.
func (d *answers) StopVerify(ctx context.Context) error {
	stopped, err := d.core.comparison.Stop(ctx, compare.ErrStopped)
	if err == nil && !stopped {
		return control.Refused("no comparison is running that can be stopped", "crossfade status shows what runs")
	}
	return err
}

// LastVerify implements control.Daemon.
func (d *answers) LastVerify() *control.VerifyReport { return d.core.comparison.Last() }

// verifyStatus is what the status tells of comparisons: that after a switch, or the last one before.
func (d *answers) verifyStatus(s *control.Status) {
	if s.Active == string(machine.SideTarget) || s.Verify.State != "idle" {
		return
	}
	s.Verify = d.core.comparison.Status()
	if step := d.core.coordinator.Status().State.Step; d.core.cfg.Change.VerifyMaxAge > 0 && followingStep(step) {
		if b := d.core.comparison.NotVerified(d.core.cfg.Change.VerifyMaxAge); b != nil {
			s.Warnings = append(s.Warnings, *b)
		}
	}
}
