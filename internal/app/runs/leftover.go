package runs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/base/journal"
)

const (
	bothSides = " --source DSN --target DSN"
	goRun     = "crossfade run" + bothSides
	goClean   = "crossfade clean" + bothSides
)

// LeftOver says which run or copy the databases hold, how far it is, and which command continues or
// removes it. detail is "" if they hold nothing.
func LeftOver(ctx context.Context, s, t *pgx.Conn) (detail, remedy string, err error) {
	sr, err := journal.LoadSource(ctx, s)
	var tr *journal.TargetRun
	if err == nil {
		tr, err = journal.LoadTarget(ctx, t)
	}
	var strange *journal.StrangeError
	switch {
	case errors.As(err, &strange):
		return strange.Detail(), strange.Remedy(), nil
	case errors.Is(err, journal.ErrExchanged):
		return err.Error(), "give the one as the other", nil
	case err != nil:
		return "", "", err
	case sr == nil && tr == nil:
		err := refuseStrange(ctx, s, t)
		if errors.As(err, &strange) {
			return strange.Detail(), strange.Remedy(), nil
		}
		return "", "", err
	case sr != nil && tr != nil && sr.RunID != tr.RunID:
		return fmt.Sprintf("the source holds run %s and the target run %s", sr.RunID, tr.RunID), "name the two databases of one run", nil
	case tr == nil:
		detail, remedy = sourceAlone(sr)
		return detail, remedy, nil
	}
	leads := s // a run is led on its source, a copy on its target
	if tr.Mode == ModeCopy {
		leads = t
	}
	led, err := journal.Leader(ctx, leads)
	if err != nil {
		return "", "", err
	}
	detail, remedy = thereAlready(sr, tr, led)
	return detail, remedy, nil
}

// RefuseOtherKind refuses a copy where a run is, and the other way round.
func RefuseOtherKind(ctx context.Context, s, t *pgx.Conn) error {
	detail, remedy, err := LeftOver(ctx, s, t)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s; %s", detail, remedy)
}

// refuseStrange refuses a schema with the name of ours that holds no run, where both journals hold
// none.
func refuseStrange(ctx context.Context, s, t *pgx.Conn) error {
	for i, conn := range []*pgx.Conn{s, t} {
		there, err := journal.Installed(ctx, conn)
		if err != nil {
			return err
		}
		if there {
			return &journal.StrangeError{Side: [2]string{"source", "target"}[i]}
		}
	}
	return nil
}

// sourceAlone is of a source whose run the target does not hold.
func sourceAlone(sr *journal.SourceRun) (detail, remedy string) {
	switch machine.StepName(sr.Step) {
	case machine.Finished:
		return fmt.Sprintf("the source is that of run %s, which was finished, and is kept closed: it takes no writes", sr.RunID),
			"name another source; or open this one: crossfade clean --force" + bothSides
	case machine.Decided:
		return fmt.Sprintf("the source holds run %s, which was switched to another target than this, and the target nothing of it", sr.RunID),
			"name the target of that run: it is the active side"
	}
	return fmt.Sprintf("the source holds run %s, and the target nothing of it", sr.RunID),
		"name the target of that run, with which crossfade run continues; or remove what it left on the source, so that it cannot continue: " + goClean
}

// thereAlready is of a run or copy that the target holds; sr is nil where the source holds nothing
// of it.
func thereAlready(sr *journal.SourceRun, tr *journal.TargetRun, led *journal.LedError) (detail, remedy string) {
	phase := phaseOf(sr, tr)
	who, what, goOn := "source and target hold", ModeRun, goRun
	if tr.Mode == ModeCopy {
		who, what, goOn = "the target holds", ModeCopy, strings.TrimSpace("crossfade copy "+tr.Options)+bothSides
	}
	detail = fmt.Sprintf("%s %s %s, in phase %s", who, what, tr.RunID, phase)
	drop := goClean + ", which drops all that it has copied"
	switch {
	case tr.Phase == journal.PhaseFinished:
		return fmt.Sprintf("the target holds what serving it needs after run %s, in phase finished", tr.RunID),
			goRun + " serves it again; when the applications connect to the target directly: " + goClean + ", which leaves their tables as they are"
	case tr.Mode == ModeRun && sr == nil && tr.Phase == journal.PhaseStarted:
		detail = fmt.Sprintf("the target holds run %s, whose start was cut short", tr.RunID)
	case tr.Mode == ModeRun && sr == nil && !tr.Phase.AtLeast(journal.PhaseSwitched):
		return fmt.Sprintf("the target holds run %s, in phase %s, and the source nothing of it", tr.RunID, phase),
			"name the source of that run; where that holds nothing of it any more: " + drop
	}
	switched := tr.Phase.AtLeast(journal.PhaseSwitched) || phase == onTarget
	if led != nil {
		detail += "; " + led.Who() + " works on it"
		switch {
		case switched:
			return detail, "crossfade status shows it, and crossfade finish ends it"
		case tr.Mode == ModeCopy:
			return detail, "wait for its end; or to give it up stop it, then: " + drop
		}
		return detail, "crossfade status shows it, and it needs nothing more; to give it up stop it, then: " + drop
	}
	detail += "; no process works on it"
	switch {
	case switched:
		return detail + ": the target is the active side", goOn + " continues it, and serves the applications; then crossfade finish ends it"
	case sr != nil && !machine.StepName(sr.Step).Resting():
		return detail + ", and an attempt to switch was left", goOn + " continues it, and crossfade recover" + bothSides + " ends the attempt alone; or to give it up: " + drop
	}
	return detail, goOn + " continues it, and keeps what was copied; or to give it up: " + drop
}

// onTarget is the phase of a run whose target is the active side, as status calls it.
const onTarget = "on_target"

// phaseOf names the phase of the journals as status does.
func phaseOf(sr *journal.SourceRun, tr *journal.TargetRun) string {
	step := machine.Idle
	if sr != nil {
		step = machine.StepName(sr.Step)
	}
	switch {
	case tr.Phase == journal.PhaseFinished:
		return string(machine.Finished)
	case step == machine.Decided || tr.Phase.AtLeast(journal.PhaseSwitched):
		return onTarget
	case !step.Resting():
		return string(step)
	case tr.Phase.AtLeast(journal.PhaseIndexed) && tr.Mode == ModeRun:
		return string(machine.Following)
	case tr.Phase.AtLeast(journal.PhaseCopied) && tr.Mode == ModeRun:
		return string(machine.CatchingUp)
	}
	return string(machine.Copying)
}
