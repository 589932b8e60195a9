package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/preflight"
	"crossfade/internal/journal"
	"crossfade/internal/obs"
	"crossfade/internal/pg"
	"crossfade/internal/retry"
	"crossfade/replicate/snapshot"
)

// whileAway repeats a beginning that a database cut short which had let it in: it
// restarts, or its compute was suspended. What is wrong before that, such as an
// address where nobody listens, ends the beginning at once.
func whileAway(ctx context.Context, log zerolog.Logger, begin func(ctx context.Context, letIn func()) error) error {
	in := false
	policy := retry.Policy{MaxElapsed: openPatience, OnRetry: obs.Retrying(log, "a database went away in the beginning; it begins again")}
	return retry.Do(ctx, policy, func(ctx context.Context) error {
		err := begin(ctx, func() { in = true })
		if err != nil && (!in || !pg.ConnectionLost(err)) {
			return retry.Permanent(err)
		}
		return err
	})
}

// open connects to both sides, becomes the leader of the source, and finds the
// run or begins one. What a failed beginning made is removed again.
func (d *daemon) open(ctx context.Context) error {
	return whileAway(ctx, d.log, func(ctx context.Context, letIn func()) error {
		if d.lead != nil {
			closeNow(d.lead)
		}
		d.lead, d.id = nil, identity{}
		return d.openOnce(ctx, letIn)
	})
}

// openOnce is one attempt; letIn is called when both sides have let us in.
func (d *daemon) openOnce(ctx context.Context, letIn func()) error {
	target, err := pg.Connect(ctx, d.cfg.Target, pg.WithName("open"))
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer closeNow(target)
	source, err := pg.Connect(ctx, d.cfg.Source, pg.WithName("lead"))
	if err != nil {
		return d.openWithoutSource(ctx, target, fmt.Errorf("source: %w", err))
	}
	if err := pg.RefuseOneDatabase(ctx, source, target); err != nil {
		closeNow(source)
		return err
	}
	if err := leadSoon(ctx, source); err != nil {
		closeNow(source)
		return fmt.Errorf("source: %w", err)
	}
	d.lead = source
	letIn()
	if d.id, err = findRun(ctx, source, target, d.cfg.Source, d.cfg.Target); err != nil {
		return err
	}
	if d.id.target != nil && d.id.target.Mode != modeRun {
		return errors.New("these databases hold a one-shot copy that was not ended: go on with crossfade copy, or remove it with crossfade clean")
	}
	begin := d.id.source == nil && !(d.id.target != nil && d.id.target.Phase.AtLeast(journal.PhaseSwitched))
	if d.id.target != nil { // of a start that was cut short, the source may be another
		if err := checkSystem(ctx, d.id, d.cfg.Source); err != nil {
			return err
		}
	}
	if begin {
		if d.id.target != nil { // the beginning before this one may have made roles
			if err := d.users.logins.load(ctx, target); err != nil {
				return err
			}
		}
		if err := d.users.logins.tryThere(ctx, source, target); err != nil {
			return err
		}
		if err := refuseBlocked(ctx, d.cfg, preflight.Options{Mode: preflight.Run, Logins: d.users.survey(), Resume: d.id.target != nil, LargeObjects: d.cfg.LargeObjects}, d.cfg.copyOptions(), d.log); err != nil {
			return err
		}
		if err := install(ctx, source, target, &d.id, d.cfg.Source, modeRun, ""); err != nil {
			return errors.Join(err, d.takeBack(ctx, source, target))
		}
	}
	d.versions = [2]int{snapshot.Version(source), snapshot.Version(target)}
	if !d.id.target.Phase.AtLeast(journal.PhaseSwitched) {
		if err = d.users.logins.ensure(ctx, source, target); err == nil {
			err = d.users.pin(ctx, target, d.log)
		}
	} else {
		err = d.users.load(ctx, target)
	}
	if err != nil && begin {
		return errors.Join(err, d.takeBack(ctx, source, target))
	}
	return err
}

// leadSoon waits a little for the lock: the session of a process that was killed
// a moment ago may still have it.
func leadSoon(ctx context.Context, source *pgx.Conn) error {
	patience := time.NewTimer(leadPatience) // no context, which would break off a question
	defer patience.Stop()
	tick := time.NewTicker(leadPoll)
	defer tick.Stop()
	for {
		err := journal.Lead(ctx, source)
		if !errors.Is(err, journal.ErrLed) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return err
		case <-tick.C:
		}
	}
}

// openWithoutSource goes on when the target is the active side and the source is
// gone, and gives the source's error otherwise. A source that refuses the password
// is not gone: applications log in with that password, and none could any more.
func (d *daemon) openWithoutSource(ctx context.Context, target *pgx.Conn, cause error) error {
	if pg.IsCode(cause, pg.CodeInvalidPassword, pg.CodeInvalidAuthorization) {
		return cause
	}
	run, err := journal.LoadTarget(ctx, target)
	if err != nil || run == nil || !run.Phase.AtLeast(journal.PhaseSwitched) {
		return errors.Join(cause, err)
	}
	d.log.Warn().Err(cause).Msg("the source does not answer; the target is active, so the applications are served")
	d.id = identity{target: run}
	d.versions[1] = snapshot.Version(target)
	return d.users.load(ctx, target)
}

// takeBack removes what a failed beginning made.
func (d *daemon) takeBack(ctx context.Context, source, target *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return errors.Join(dropLogins(ctx, target, func(string) {}), journal.Uninstall(ctx, source), journal.Uninstall(ctx, target))
}
