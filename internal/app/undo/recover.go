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
	var row *journal.SourceRun // of the target
	if terr == nil {
		if row, err = journal.ReadRow(ctx, t); err != nil {
			return "", exit.NotComplete(fmt.Errorf("target: %w", err))
		}
	}
	return endAttempt(ctx, [2]side{{machine.SideSource, s, run, serr}, {machine.SideTarget, t, row, terr}})
}

// side is one of the two databases, as a recovery finds it: away is why it does not answer, and row is
// nil then.
type side struct {
	name machine.Side
	conn *pgx.Conn
	row  *journal.SourceRun
	away error
}

// taken is the row of a side as the coordinator has it.
func (d side) taken() ports.Taken {
	if d.row == nil {
		return ports.Taken{Err: d.away}
	}
	return ports.Taken{Record: machine.Record{Epoch: d.row.Epoch, Direction: machine.Direction(d.row.Direction), Step: machine.StepName(d.row.Step)}}
}

// endAttempt ends an attempt that is under way, in the way that the coordinator does.
func endAttempt(ctx context.Context, sides [2]side) (sentence string, err error) {
	r, err := ports.Newest(sides[0].taken(), sides[1].taken())
	if err != nil {
		return "", exit.NotComplete(err)
	}
	closing, opening := sides[0], sides[1]
	if r.Direction == machine.Reverse {
		closing, opening = opening, closing
	}
	switch {
	case r.Step == machine.Decided || r.Step == machine.Finished:
		return fmt.Sprintf("The %s is active: epoch %d was decided.", opening.name, r.Epoch), nil
	case r.Step.Resting():
		return fmt.Sprintf("The %s is active: no attempt is under way (epoch %d).", closing.name, r.Epoch), nil
	}
	const me = "recover"
	run, err := journal.Take(ctx, closing.conn, me)
	if err != nil {
		return "", exit.NotComplete(err)
	}
	step := machine.StepName(run.Step)
	decision := journal.Abort
	if opening.away == nil {
		if decision, err = journal.Reject(ctx, opening.conn, run.Epoch); err != nil {
			return "", exit.NotComplete(err)
		}
	} else if step == machine.Deciding || !step.Known() {
		return fmt.Sprintf("Which side is active cannot be said: epoch %d was about to be decided, and the %s, which holds the decision, does not answer.", run.Epoch, opening.name),
			exit.NotComplete(fmt.Errorf("%s: %w; make it reachable and run this again", opening.name, opening.away))
	}
	if decision == journal.Commit {
		if err := journal.Advance(ctx, closing.conn, run.Epoch, me, run.Step, string(machine.Decided)); err != nil {
			return "", exit.NotComplete(err)
		}
		return fmt.Sprintf("The %s is active: epoch %d was decided, and the %s has now been told so.", opening.name, run.Epoch, closing.name), nil
	}
	if err := ports.Unfence(ctx, closing.conn, run.Epoch, me, []string{run.Step}); err != nil {
		return fmt.Sprintf("The %s is the active side, but its fence is still closed.", closing.name), exit.NotComplete(err)
	}
	says := fmt.Sprintf("The %s is active: epoch %d, left in the step %s, was aborted and the fence opened.", closing.name, run.Epoch, run.Step)
	if err := ports.WakeJobs(ctx, closing.conn); err != nil {
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
		row, err := journal.ReadRow(ctx, t)
		if err != nil {
			return "", exit.NotComplete(err)
		}
		if row != nil && row.Epoch > 0 && !(row.Direction == string(machine.Reverse) && row.Step == string(machine.Decided)) {
			says, err := endAttempt(ctx, [2]side{{machine.SideSource, nil, nil, serr}, {machine.SideTarget, t, row, nil}})
			if err == nil {
				says += " The source does not answer."
			}
			return says, err
		}
	}
	return "The source is the active side, but it does not answer.", exit.NotComplete(fmt.Errorf("source: %w", serr))
}
