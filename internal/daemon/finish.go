package daemon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/internal/control"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
)

// Finish implements control.Daemon: it ends the migration for good. What
// Crossfade made is dropped on both sides, the fence of the source too; the
// proxy goes on serving the target.
func (d *daemon) Finish(ctx context.Context, opt control.FinishOptions) (control.FinishReport, error) {
	s := d.coordinator.Status()
	switch {
	case s.Active != cutover.SideTarget:
		return control.FinishReport{}, refused("the source is still active", "switch first, with crossfade cutover")
	case !d.migration.reached(journal.PhaseValid) && !opt.Force && len(d.left.blockers()) > 0:
		b := d.left.blockers()[0]
		detail := b.Detail
		if more := len(d.left.blockers()) - 1; more > 0 {
			detail += fmt.Sprintf("; and %d more, which crossfade status names", more)
		}
		return control.FinishReport{}, refused("the target is not whole: "+detail, b.Remedy)
	case !d.migration.reached(journal.PhaseValid) && !opt.Force:
		return control.FinishReport{}, refused("the target is not whole yet: foreign keys are being validated", "wait, and look at crossfade status")
	case s.Verification.State == "running" && !opt.Force:
		return control.FinishReport{}, refused(fmt.Sprintf("the comparison of both sides is under way, %d of %d tables done", s.Verification.TablesDone, s.Verification.TablesTotal), "wait, or give --force")
	case s.Verification.State == "different" && !opt.Force:
		return control.FinishReport{}, refused(fmt.Sprintf("%d tables differ between the two sides", s.Verification.Differences), "look at the daemon's log; give --force to finish nevertheless")
	case s.Verification.State != "equal" && !opt.Force:
		return control.FinishReport{}, refused(unproved(s.Verification.State), "look at the daemon's log; give --force to finish nevertheless")
	}
	if err := d.verify.Discard(ctx); err != nil {
		return control.FinishReport{}, err
	}
	journalled, err := d.journalled(ctx)
	if err != nil {
		return control.FinishReport{}, refused("the source does not answer: "+err.Error(), "make it reachable and run this again; meanwhile the target is served")
	}
	if err := d.watchlist.apart(ctx); err != nil {
		return control.FinishReport{}, refused(err.Error(), "look at what the two connection strings lead to now, then run this again")
	}
	if journalled && s.State.Step != cutover.Finished {
		if err := d.coordinator.Advance(ctx, cutover.Finished); err != nil {
			return control.FinishReport{}, refused(err.Error(), "look at crossfade status")
		}
	}
	d.stream.end()
	var r control.FinishReport
	tell := func(object string) { r.Dropped = append(r.Dropped, object) }
	note := func(text string) { r.Notes = append(r.Notes, text) }
	if err := d.drop(ctx, tell, note); err != nil {
		return r, &control.Error{Code: control.CodeIncomplete, Message: "not everything could be dropped: " + err.Error(), Remedy: "mend the cause and run crossfade finish again, or crossfade clean --force"}
	}
	r.Notes = append(r.Notes, "the source is no longer fenced: nothing stops a client that connects to it directly",
		"the proxy goes on serving the target; point the applications at the target, then stop it")
	return r, nil
}

// unproved says why there is no proof that both sides were equal.
func unproved(state string) string {
	if verifyState(state) == "idle" {
		return "the tables of both sides were not compared: crossfade run was started again behind the switch, and the snapshots of that moment are gone"
	}
	return "the tables of both sides could not be proved equal"
}

// journalled reports whether the source still has the run's row, which a finish
// that was cut short has dropped.
func (d *daemon) journalled(ctx context.Context) (there bool, err error) {
	err = d.watching.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		run, err := journal.LoadSource(ctx, conn)
		there = run != nil
		return err
	})
	return there, err
}

func (d *daemon) drop(ctx context.Context, tell, note func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, cleanPatience)
	defer cancel()
	source, err := pg.Connect(ctx, d.cfg.Source, pg.WithName("finish"))
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer closeNow(source)
	target, err := pg.Connect(ctx, d.cfg.Target, pg.WithName("finish"))
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer closeNow(target)
	if err := pg.RefuseOneDatabase(ctx, source, target); err != nil {
		return err
	}
	sr, err := journal.LoadSource(ctx, source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := cleanSource(ctx, source, sr, d.id.target, true, tell); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	there, err := journal.Installed(ctx, target)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if there {
		notes, err := d.users.logins.handOver(ctx, target)
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		for _, n := range notes {
			note(n)
		}
		if err := dropOurs(ctx, target, "target", tell); err != nil {
			return fmt.Errorf("target: %w", err)
		}
	}
	d.migration.setPhase(journal.PhaseFinished)
	return nil
}

func refused(message, remedy string) error {
	return &control.Error{Code: control.CodeRefused, Message: message, Remedy: remedy}
}
