package undo

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/machine"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
)

// Recover says in one sentence which side is active and does the only safe thing: it ends an
// attempt that no process leads any more. It refuses while a daemon leads the run, since that does
// the same by itself.
func Recover(ctx context.Context, source, target pg.DSN) (sentence string, err error) {
	t, terr := pg.Connect(ctx, target, pg.WithName("recover"))
	defer dbconn.CloseNow(t)
	s, serr := pg.Connect(ctx, source, pg.WithName("recover"))
	if serr != nil {
		return recoverWithoutSource(ctx, t, terr, serr)
	}
	defer dbconn.CloseNow(s)
	if terr == nil {
		if err := onedatabase.Refuse(ctx, s, t); err != nil {
			return "", err
		}
	}
	if err := runs.LeadSoon(ctx, s, zerolog.Nop()); err != nil {
		return "", fmt.Errorf("source: %w; a running daemon does by itself what is to be done: look at crossfade status", err)
	}
	run, err := journal.LoadSource(ctx, s)
	if err != nil {
		return "", recoverError(fmt.Errorf("source: %w", err))
	}
	if terr == nil {
		if err := sameRun(ctx, t, run, target); err != nil {
			return "", recoverError(err)
		}
	}
	if run == nil {
		return recoverWithoutRun(ctx, t, terr)
	}
	step := machine.StepName(run.Step)
	switch {
	case step == machine.Decided || step == machine.Finished:
		return fmt.Sprintf("The target is active: epoch %d was decided.", run.Epoch), nil
	case step.Resting():
		return fmt.Sprintf("The source is active: no attempt is under way (epoch %d).", run.Epoch), nil
	}
	const me = "recover"
	if *run, err = journal.Take(ctx, s, me); err != nil {
		return "", exit.NotComplete(err)
	}
	decision := journal.Abort
	if terr == nil {
		if decision, err = journal.Reject(ctx, t, run.Epoch); err != nil {
			return "", exit.NotComplete(err)
		}
	} else if step == machine.Deciding || !step.Known() {
		return fmt.Sprintf("Which side is active cannot be said: epoch %d was about to be decided, and the target, which holds the decision, does not answer.", run.Epoch),
			exit.NotComplete(fmt.Errorf("target: %w; make it reachable and run this again", terr))
	}
	if decision == journal.Commit {
		if err := journal.Advance(ctx, s, run.Epoch, me, run.Step, string(machine.Decided)); err != nil {
			return "", exit.NotComplete(err)
		}
		return fmt.Sprintf("The target is active: epoch %d was decided, and the source has now been told so.", run.Epoch), nil
	}
	if err := ports.Unfence(ctx, s, run.Epoch, me, []string{run.Step}); err != nil {
		return "The source is the active side, but its fence is still closed.", exit.NotComplete(err)
	}
	says := fmt.Sprintf("The source is active: epoch %d, left in the step %s, was aborted and the fence opened.", run.Epoch, run.Step)
	if err := ports.WakeJobs(ctx, s); err != nil {
		says += fmt.Sprintf(" Jobs of pg_cron still rest (%v): crossfade run and crossfade clean let them run again.", err)
	}
	return says, nil
}

// recoverError gives the exit code: nothing was changed by a refusal.
func recoverError(err error) error {
	if errors.Is(err, journal.ErrExchanged) || errors.Is(err, errOtherRun) {
		return err
	}
	return exit.NotComplete(err)
}

// errOtherRun says that two databases do not belong to one run.
var errOtherRun = errors.New("name the two databases of one run")

// sameRun refuses a target that does not belong to the source's run.
func sameRun(ctx context.Context, t *pgx.Conn, run *journal.SourceRun, target pg.DSN) error {
	tr, err := journal.LoadTarget(ctx, t)
	switch {
	case err != nil:
		return fmt.Errorf("target: %w", err)
	case run != nil && tr == nil:
		return fmt.Errorf("the source holds a run of Crossfade, %s does not: %w", target.Redacted(), errOtherRun)
	case run != nil && tr.RunID != run.RunID:
		return fmt.Errorf("the source and %s hold different runs of Crossfade: %w", target.Redacted(), errOtherRun)
	}
	return nil
}

// recoverWithoutRun is for a source that holds no run: before a first start, after a finish, or
// after an interrupted one.
func recoverWithoutRun(ctx context.Context, t *pgx.Conn, terr error) (string, error) {
	if terr == nil {
		tr, err := journal.LoadTarget(ctx, t)
		if err != nil {
			return "", exit.NotComplete(err)
		}
		if tr != nil && tr.Phase.AtLeast(journal.PhaseSwitched) {
			return "The target is active: it was switched to, and the source holds nothing of the run any more.", nil
		}
	}
	return "No run of Crossfade is under way: the source is not fenced, and holds no run.", nil
}

func recoverWithoutSource(ctx context.Context, t *pgx.Conn, terr, serr error) (string, error) {
	if terr != nil {
		return "Which side is active cannot be said: neither database answers.", exit.NotComplete(fmt.Errorf("source: %w; target: %w", serr, terr))
	}
	there, err := journal.Installed(ctx, t)
	if err != nil {
		return "", exit.NotComplete(err)
	}
	if there {
		epoch, err := journal.LastCommit(ctx, t)
		if err != nil {
			return "", exit.NotComplete(err)
		}
		if epoch > 0 {
			return fmt.Sprintf("The target is active: epoch %d was decided. The source does not answer.", epoch), nil
		}
	}
	return "The source is the active side, but it does not answer.", exit.NotComplete(fmt.Errorf("source: %w", serr))
}
