package undo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/machine"
	"crossfade/cutover/preflight/database"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/lanes"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/extras/largeobject"
	"crossfade/replicate/slot"
	"crossfade/schema/archive"
	"crossfade/schema/changes"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// CleanPatience bounds the removal on one side: fences are dropped table by
// table, each waiting for the application's transactions in turns.
const CleanPatience = 5 * time.Minute

// Clean removes what an abandoned run left on both sides and says each object in a line, and what
// stays. Where nothing was decided, what the run restored on the target goes too, so that a new run
// finds it empty. A run that was decided is cleaned only with force, and then the target keeps what
// it has.
func Clean(ctx context.Context, source, target pg.DSN, force bool, say func(line string)) error {
	tell := func(object string) { say("removed " + object) }
	ctx, cancel := context.WithTimeout(ctx, CleanPatience)
	defer cancel()
	t, err := pg.Connect(ctx, target, pg.WithName("clean"))
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer dbconn.CloseNow(t)
	if there, err := journal.LoadTarget(ctx, t); err == nil && there != nil && there.Phase == journal.PhaseFinished && !force {
		if err := cleanFinished(ctx, t, tell); err != nil {
			return err
		}
		if keptShut(ctx, source) {
			say("kept source: its fence: the source takes no writes; crossfade clean --force opens it")
		}
		return nil
	}
	s, err := pg.Connect(ctx, source, pg.WithName("clean"))
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer dbconn.CloseNow(s)
	if err := onedatabase.Refuse(ctx, s, t); err != nil {
		return err
	}
	for _, side := range []struct {
		name string
		conn *pgx.Conn
	}{{"source", s}, {"target", t}} {
		if err := runs.LeadSoon(ctx, side.conn, zerolog.Nop()); err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
	}
	run, err := journal.LoadTarget(ctx, t)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	sr, err := journal.LoadSource(ctx, s)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if err := belong(ctx, sr, run, source, force); err != nil {
		return err
	}
	decided, err := settle(ctx, s, t, run)
	if err != nil {
		return err
	}
	if decided && !force {
		return errActive
	}
	lines, err := toBeRemoved(ctx, t, sr, run, decided)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	for _, l := range lines {
		say(l)
	}
	if err := CleanSource(ctx, s, sr, run, decided, tell); err != nil {
		return exit.NotComplete(fmt.Errorf("source: %w", err))
	}
	if err := cleanTarget(ctx, t, run, decided, tell); err != nil {
		return exit.NotComplete(fmt.Errorf("target: %w", err))
	}
	if run == nil || decided || run.Mode != runs.ModeRun {
		return nil
	}
	left, err := database.Objects(ctx, t)
	if err != nil {
		return exit.NotComplete(fmt.Errorf("target: %w", err))
	}
	if len(left) > 0 {
		say("kept target: " + strings.Join(left, ", ") + ": neither the run nor the source has them; crossfade run begins in an empty database: drop them, or name another one with --target")
	}
	return nil
}

// mostToBeRemoved is how many tables are named before they are dropped; each is printed once it
// was.
const mostToBeRemoved = 10

// toBeRemoved says what a clean is about to remove, none where there is nothing.
func toBeRemoved(ctx context.Context, t *pgx.Conn, sr *journal.SourceRun, tr *journal.TargetRun, decided bool) (lines []string, err error) {
	if sr != nil {
		lines = append(lines, fmt.Sprintf("to be removed from the source: what run %s made there (slot, publication, fence, schema %s); its tables stay", sr.RunID, journal.Schema))
	}
	switch {
	case tr == nil:
		return lines, nil
	case decided:
		return append(lines, fmt.Sprintf("to be removed from the target: schema %s; what was copied stays", journal.Schema)), nil
	}
	var names []string
	var size string
	err = t.QueryRow(ctx, `SELECT coalesce(array_agg(c.oid::regclass::text ORDER BY pg_total_relation_size(c.oid) DESC), '{}'), pg_size_pretty(coalesce(sum(pg_total_relation_size(c.oid)), 0))
		FROM crossfade.relation r JOIN pg_namespace n ON n.nspname = r.nsp JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = r.rel`).Scan(&names, &size)
	if err != nil {
		return nil, fmt.Errorf("list what was copied: %w", err)
	}
	line := fmt.Sprintf("to be removed from the target: all that %s %s has copied and made, in %d tables (%s)", tr.Mode, tr.RunID, len(names), size)
	if len(names) > 0 {
		line += ": " + strings.Join(names[:min(len(names), mostToBeRemoved)], ", ")
	}
	if more := len(names) - mostToBeRemoved; more > 0 {
		line += fmt.Sprintf(" and %d more", more)
	}
	return append(lines, line), nil
}

// cleanFinished removes what finish has left on the target. The source, which may be gone, is not
// changed.
func cleanFinished(ctx context.Context, t *pgx.Conn, tell func(string)) error {
	if err := runs.LeadSoon(ctx, t, zerolog.Nop()); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if err := dropOurs(ctx, t, "target", tell); err != nil {
		return exit.NotComplete(fmt.Errorf("target: %w", err))
	}
	return nil
}

// sourceCheckTimeout is how long a source may take that is only asked whether it is still closed.
const sourceCheckTimeout = 3 * time.Second

// keptShut reports whether the source is there and has still what a finish leaves on it.
func keptShut(ctx context.Context, source pg.DSN) bool {
	ctx, cancel := context.WithTimeout(ctx, sourceCheckTimeout)
	defer cancel()
	s, err := pg.Connect(ctx, source, pg.WithName("clean"))
	if err != nil {
		return false
	}
	defer dbconn.CloseNow(s)
	sr, err := journal.LoadSource(ctx, s)
	return err == nil && sr != nil
}

// errActive refuses to remove a run whose applications are on the target.
var errActive = errors.New("the target is the active side of this run: start crossfade run, unless it runs, and end it with crossfade finish; or, which opens the source's fence as well: crossfade clean --force")

// errFinished refuses to open a source whose migration has been finished.
var errFinished = errors.New("this run was finished, and its source is kept closed so that nobody writes there by mistake; to open it: crossfade clean --force")

// belong refuses databases that do not belong together, before anything is changed: what is
// restored on the target may belong to another run, which continues.
func belong(ctx context.Context, sr *journal.SourceRun, tr *journal.TargetRun, source pg.DSN, force bool) error {
	switch {
	case sr != nil && tr != nil && sr.RunID != tr.RunID:
		return errors.New("source and target hold different runs of Crossfade: name the two databases of one run")
	case force:
		return nil
	case sr != nil && tr == nil && machine.StepName(sr.Step) == machine.Finished:
		return errFinished
	case sr != nil && tr == nil && machine.StepName(sr.Step) == machine.Decided:
		return fmt.Errorf("the source holds run %s, which was switched to another target than this: name the target of that run; or, which opens the source's fence: crossfade clean --force", sr.RunID)
	case sr == nil && tr != nil && tr.Mode == runs.ModeRun:
		return runs.CheckSystem(ctx, runs.Identity{Target: tr}, source)
	}
	return nil
}

// settle reports whether the run was decided. It takes the run first and rejects an epoch that is
// under way, so that a process that still works on it cannot decide any more.
func settle(ctx context.Context, s, t *pgx.Conn, run *journal.TargetRun) (decided bool, err error) {
	sr, err := journal.LoadSource(ctx, s)
	if err != nil || run == nil {
		return false, err
	}
	if sr != nil {
		taken, err := journal.Take(ctx, s, "clean")
		if err != nil {
			return false, err
		}
		if taken.Epoch > 0 {
			if _, err := journal.Reject(ctx, t, taken.Epoch); err != nil {
				return false, err
			}
		}
	}
	last, err := journal.LastCommit(ctx, t)
	return last.Epoch > 0 || run.Phase.AtLeast(journal.PhaseSwitched), err
}

// CloseSource removes from the source what a finished migration no longer needs, and leaves its
// tables closed.
func CloseSource(ctx context.Context, s *pgx.Conn, slotName string, tell func(string)) error {
	if err := dropSlot(ctx, s, slotName, tell); err != nil {
		return err
	}
	if err := dropPublication(ctx, s, tell); err != nil {
		return err
	}
	done, err := journal.KeepClosed(ctx, s)
	if done {
		tell(DroppedTables)
	}
	return err
}

// dropSlot removes a replication slot if it exists.
func dropSlot(ctx context.Context, s *pgx.Conn, name string, tell func(string)) error {
	_, there, err := slot.Get(ctx, s, name)
	if err != nil || !there {
		return err
	}
	if err := slot.Drop(ctx, s, name); err != nil {
		return err
	}
	tell("source: replication slot " + name)
	return nil
}

// dropPublication removes our publication where it is there.
func dropPublication(ctx context.Context, s *pgx.Conn, tell func(string)) error {
	var there bool
	if err := s.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = $1)`, journal.Publication).Scan(&there); err != nil {
		return fmt.Errorf("look for publication %s: %w", journal.Publication, err)
	}
	if !there {
		return nil
	}
	if err := slot.DropPublication(ctx, s, journal.Publication); err != nil {
		return err
	}
	tell("source: publication " + journal.Publication)
	return nil
}

// CleanSource removes slot, publication, fences and schema from the source. Jobs that
// rest are let run again where nothing was decided.
func CleanSource(ctx context.Context, s *pgx.Conn, sr *journal.SourceRun, tr *journal.TargetRun, decided bool, tell func(string)) error {
	if sr == nil && tr == nil {
		return nil
	}
	name := ""
	if tr != nil {
		name = tr.Slot
	} else {
		name = journal.SlotPrefix + sr.RunID
	}
	if name != "" {
		if err := dropSlot(ctx, s, name, tell); err != nil {
			return err
		}
	}
	if sr == nil {
		return nil
	}
	if err := ports.EndRest(ctx, s, decided, tell); err != nil {
		return err
	}
	if err := dropPublication(ctx, s, tell); err != nil {
		return err
	}
	return dropOurs(ctx, s, "source", tell)
}

// dropOurs removes the fences and the schema crossfade from a side.
func dropOurs(ctx context.Context, conn *pgx.Conn, side string, tell func(string)) error {
	n, err := journal.DropFence(ctx, conn, journal.Patience{LockTimeout: options.DefaultLockTimeout})
	if err != nil {
		return err
	}
	if n > 0 {
		tell(fmt.Sprintf("%s: fence triggers of %d tables", side, n))
	}
	if err := journal.Uninstall(ctx, conn); err != nil {
		return err
	}
	tell(side + ": schema " + journal.Schema)
	return nil
}

// cleanTarget removes what the run restored, unless it was decided, and our schema.
func cleanTarget(ctx context.Context, t *pgx.Conn, run *journal.TargetRun, decided bool, tell func(string)) error {
	if run == nil {
		return nil
	}
	if err := lanes.Drop(ctx, t, lanes.BackSlot(run.Slot), tell); err != nil {
		return err
	}
	if !decided && run.Mode == runs.ModeCopy {
		if err := migration.EmptyAgain(ctx, t, tell); err != nil {
			return err
		}
	}
	if !decided {
		n, err := extension.RemoveJobs(ctx, t)
		if err != nil {
			return fmt.Errorf("remove the jobs of pg_cron: %w", err)
		}
		if n > 0 {
			tell(fmt.Sprintf("target: %d jobs of pg_cron", n))
		}
	}
	if !decided && len(run.Archive) > 0 {
		if err := dropRestored(ctx, t, run, tell); err != nil {
			return err
		}
		n, err := largeobject.Forget(ctx, t)
		if err != nil {
			return err
		}
		if n > 0 {
			tell(fmt.Sprintf("target: %d large objects", n))
		}
	}
	if !decided && run.Mode == runs.ModeRun {
		if err := logins.DropLogins(ctx, t, tell); err != nil {
			return err
		}
	}
	return dropOurs(ctx, t, "target", tell)
}

// dropRestored drops the objects that we restored according to crossfade.item, the last first, with
// pg_dump's own statements; and the objects that the source has got since and that were made on the
// target by hand from printed statements.
func dropRestored(ctx context.Context, t *pgx.Conn, run *journal.TargetRun, tell func(string)) error {
	dumped, err := plan.ParseArchive(run.Archive)
	if err != nil {
		return err
	}
	done, err := restore.Done(ctx, t)
	if err != nil {
		return err
	}
	entries := restore.Droppable(plan.New(dumped), func(e *archive.Entry) bool { return done[e.ID] })
	if run.Mode == runs.ModeRun && run.ArchiveNow != nil {
		now, err := plan.ParseArchive(run.ArchiveNow)
		if err != nil {
			return err
		}
		then := lists.SetOf(dumped.Entries, func(e archive.Entry) int { return e.ID })
		entries = append(restore.Droppable(plan.New(changes.Continued(dumped, now)), func(e *archive.Entry) bool { return !then[e.ID] }), entries...)
	}
	err = restore.Drop(ctx, t, entries, func(object string) { tell("target: " + object) })
	if depends, ok := errors.AsType[*restore.DependentsError](err); ok {
		return fmt.Errorf("%w: someone has made on the target: %s; drop that there, then run crossfade clean again", depends.Err, strings.Join(depends.Dependents, ", "))
	}
	return err
}

// DroppedTables says what goes of the schema of a source that stays closed.
const DroppedTables = "source: tables backend and marker of schema " + journal.Schema
