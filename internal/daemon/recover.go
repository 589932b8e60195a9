package daemon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
)

// Recover says in one sentence which side is active and does the only safe
// thing: it ends an attempt that nobody leads any more. It refuses while a
// daemon leads the run, which does the same by itself.
func Recover(ctx context.Context, source, target pg.DSN) (sentence string, err error) {
	t, terr := pg.Connect(ctx, target, pg.WithName("recover"))
	if terr == nil {
		defer closeNow(t)
	}
	s, serr := pg.Connect(ctx, source, pg.WithName("recover"))
	if serr != nil {
		return recoverWithoutSource(ctx, t, terr, serr)
	}
	defer closeNow(s)
	if err := journal.Lead(ctx, s); err != nil {
		return "", err
	}
	run, err := journal.LoadSource(ctx, s)
	if err != nil {
		return "", notComplete(err)
	}
	if run == nil {
		return "The source is active: it holds no run of Crossfade.", nil
	}
	step := cutover.StepName(run.Step)
	switch {
	case step == cutover.Decided || step == cutover.Finished:
		return fmt.Sprintf("The target is active: epoch %d was decided.", run.Epoch), nil
	case step.Resting():
		return fmt.Sprintf("The source is active: no attempt is under way (epoch %d).", run.Epoch), nil
	}
	const me = "recover"
	if _, err := journal.Take(ctx, s, me); err != nil {
		return "", notComplete(err)
	}
	decision := journal.Abort
	if terr == nil {
		if decision, err = journal.Reject(ctx, t, run.Epoch); err != nil {
			return "", notComplete(err)
		}
	} else if step == cutover.Deciding || !step.Known() {
		return fmt.Sprintf("Which side is active cannot be said: epoch %d was about to be decided, and the target, which holds the decision, does not answer.", run.Epoch),
			notComplete(fmt.Errorf("target: %w; make it reachable and run this again", terr))
	}
	if decision == journal.Commit {
		if err := journal.Advance(ctx, s, run.Epoch, me, run.Step, string(cutover.Decided)); err != nil {
			return "", notComplete(err)
		}
		return fmt.Sprintf("The target is active: epoch %d was decided, and the source has now been told so.", run.Epoch), nil
	}
	if err := unfence(ctx, s, run.Epoch, me, defaultLockTimeout, []string{run.Step}); err != nil {
		return "The source is the active side, but its fence is still closed.", notComplete(err)
	}
	return fmt.Sprintf("The source is active: epoch %d, left in the step %s, was aborted and the fence opened.", run.Epoch, run.Step), nil
}

func recoverWithoutSource(ctx context.Context, t *pgx.Conn, terr, serr error) (string, error) {
	if terr != nil {
		return "Which side is active cannot be said: neither database answers.", notComplete(fmt.Errorf("source: %w; target: %w", serr, terr))
	}
	there, err := journal.Installed(ctx, t)
	if err != nil {
		return "", notComplete(err)
	}
	if there {
		epoch, err := journal.LastCommit(ctx, t)
		if err != nil {
			return "", notComplete(err)
		}
		if epoch > 0 {
			return fmt.Sprintf("The target is active: epoch %d was decided. The source does not answer.", epoch), nil
		}
	}
	return "The source is the active side, but it does not answer.", notComplete(fmt.Errorf("source: %w", serr))
}
