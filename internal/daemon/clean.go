package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
	"crossfade/replicate/extension"
	"crossfade/replicate/largeobject"
	"crossfade/replicate/slot"
	"crossfade/schema"
)

// cleanPatience bounds the removal on one side: fences are dropped table by
// table, each waiting for the application's transactions in turns.
const cleanPatience = 5 * time.Minute

// Clean removes what an abandoned run left on both sides and tells each object.
// Where nothing was decided, what the run restored on the target goes too, so
// that a new run finds it empty. A run that was decided is cleaned only with
// force, and then the target keeps what it has.
func Clean(ctx context.Context, source, target pg.DSN, force bool, tell func(object string)) error {
	ctx, cancel := context.WithTimeout(ctx, cleanPatience)
	defer cancel()
	t, err := pg.Connect(ctx, target, pg.WithName("clean"))
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer closeNow(t)
	if there, err := journal.LoadTarget(ctx, t); err == nil && there != nil && there.Phase == journal.PhaseFinished && !force {
		return cleanFinished(ctx, t, tell)
	}
	s, err := pg.Connect(ctx, source, pg.WithName("clean"))
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	defer closeNow(s)
	if err := pg.RefuseOneDatabase(ctx, s, t); err != nil {
		return err
	}
	for _, side := range []struct {
		name string
		conn *pgx.Conn
	}{{"source", s}, {"target", t}} {
		if err := leadSoon(ctx, side.conn, zerolog.Nop()); err != nil {
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
	if err := cleanSource(ctx, s, sr, run, decided, tell); err != nil {
		return notComplete(fmt.Errorf("source: %w", err))
	}
	if err := cleanTarget(ctx, t, run, decided, tell); err != nil {
		return notComplete(fmt.Errorf("target: %w", err))
	}
	return nil
}

// cleanFinished removes what finish has left on the target. The source, which may be gone, is not touched.
func cleanFinished(ctx context.Context, t *pgx.Conn, tell func(string)) error {
	if err := leadSoon(ctx, t, zerolog.Nop()); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if err := dropOurs(ctx, t, "target", tell); err != nil {
		return notComplete(fmt.Errorf("target: %w", err))
	}
	return nil
}

// errActive refuses to remove a run whose applications are on the target.
var errActive = errors.New("the target is the active side of this run: end it with crossfade finish, or give --force, which opens the source's fence as well")

// errFinished refuses to open a source whose migration has been finished.
var errFinished = errors.New("this run was finished, and its source is kept closed so that nobody writes there by mistake: give --force to open it")

// belong refuses databases that do not belong together, before anything is
// changed: what is restored on the target may be another run's, which goes on.
func belong(ctx context.Context, sr *journal.SourceRun, tr *journal.TargetRun, source pg.DSN, force bool) error {
	switch {
	case sr != nil && tr != nil && sr.RunID != tr.RunID:
		return errors.New("source and target hold different runs of Crossfade: name the two databases of one run")
	case force:
		return nil
	case sr != nil && tr == nil && cutover.StepName(sr.Step) == cutover.Finished:
		return errFinished
	case sr != nil && tr == nil && cutover.StepName(sr.Step) == cutover.Decided:
		return errActive
	case sr == nil && tr != nil && tr.Mode == modeRun:
		return checkSystem(ctx, identity{target: tr}, source)
	}
	return nil
}

// settle reports whether the run was decided. It takes the run first and rejects an
// epoch that is under way, so that a process that still acts on it can decide no
// more.
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
	return last > 0 || run.Phase.AtLeast(journal.PhaseSwitched), err
}

// closeSource removes from the source what a finished migration needs no more, and leaves
// its tables closed.
func closeSource(ctx context.Context, s *pgx.Conn, slotName string, tell func(string)) error {
	if err := dropSlot(ctx, s, slotName, tell); err != nil {
		return err
	}
	if err := dropPublication(ctx, s, tell); err != nil {
		return err
	}
	done, err := journal.KeepClosed(ctx, s)
	if done {
		tell("source: tables backend and marker of schema " + journal.Schema)
	}
	return err
}

// dropSlot removes a replication slot that is there.
func dropSlot(ctx context.Context, s *pgx.Conn, name string, tell func(string)) error {
	_, there, err := slot.Get(ctx, s, name)
	if err != nil || !there {
		return err
	}
	if err := slot.Drop(ctx, s, name, slot.TerminateHolder); err != nil {
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

// cleanSource removes slot, publication, fences and schema from the source. Jobs that
// rest are let run again where nothing was decided.
func cleanSource(ctx context.Context, s *pgx.Conn, sr *journal.SourceRun, tr *journal.TargetRun, decided bool, tell func(string)) error {
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
	if err := endRest(ctx, s, decided, tell); err != nil {
		return err
	}
	if err := dropPublication(ctx, s, tell); err != nil {
		return err
	}
	return dropOurs(ctx, s, "source", tell)
}

// dropOurs removes the fences and the schema crossfade from a side.
func dropOurs(ctx context.Context, conn *pgx.Conn, side string, tell func(string)) error {
	n, err := journal.DropFence(ctx, conn, defaultLockTimeout, 1)
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

// cleanTarget removes what the run restored, unless it was decided, and our
// schema.
func cleanTarget(ctx context.Context, t *pgx.Conn, run *journal.TargetRun, decided bool, tell func(string)) error {
	if run == nil {
		return nil
	}
	if !decided && run.Mode == modeCopy {
		if err := emptyAgain(ctx, t, tell); err != nil {
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
		if err := dropRestored(ctx, t, run.Archive, tell); err != nil {
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
	if !decided && run.Mode == modeRun {
		if err := dropLogins(ctx, t, tell); err != nil {
			return err
		}
	}
	return dropOurs(ctx, t, "target", tell)
}

// dropRestored drops what crossfade.item says we restored, the last first, with
// pg_dump's own words.
func dropRestored(ctx context.Context, t *pgx.Conn, data []byte, tell func(string)) error {
	archive, err := schema.ParseArchive(data)
	if err != nil {
		return err
	}
	rows, err := t.Query(ctx, `SELECT id FROM crossfade.item WHERE done`)
	if err != nil {
		return fmt.Errorf("read what was restored: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return fmt.Errorf("read what was restored: %w", err)
	}
	done := map[int]bool{}
	for _, id := range ids {
		done[id] = true
	}
	plan := schema.NewPlan(archive)
	var entries []*schema.Entry
	for _, part := range []schema.Part{schema.PreData, schema.AfterCopy, schema.Decision, schema.Last} {
		entries = append(entries, plan.Entries(part)...)
	}
	slices.Reverse(entries)
	entries = slices.DeleteFunc(entries, func(e *schema.Entry) bool {
		return !done[e.ID] || e.Drop == "" || e.Kind == "SCHEMA" && e.Tag == "public" || e.Kind == "EXTENSION"
	})
	// What belongs to something that was attached to it later, such as the key of
	// a partition, goes with that: it is tried again behind the others.
	for len(entries) > 0 {
		var left []*schema.Entry
		var first error
		for _, e := range entries {
			err := dropEntry(ctx, t, e, tell)
			if err != nil && !pg.IsCode(err, codeInherited, codeDependent) {
				return err
			}
			if err != nil {
				left, first = append(left, e), cmp.Or(first, err)
			}
		}
		if len(left) == len(entries) {
			return first
		}
		entries = left
	}
	return nil
}

// What PostgreSQL says of an object that cannot be dropped before another one.
const (
	codeInherited = "42P16"
	codeDependent = "2BP01"
)

func dropEntry(ctx context.Context, t *pgx.Conn, e *schema.Entry, tell func(string)) error {
	_, err := t.PgConn().Exec(ctx, e.Drop).ReadAll()
	switch {
	case err == nil:
		tell(fmt.Sprintf("target: %s %s", e.Kind, pg.Name{Schema: e.Schema, Name: e.Tag}.Display()))
	case pg.IsCode(err, pg.CodeUndefinedObject, pg.CodeUndefinedTable, "42883", "3F000"):
		// It went with something that it belonged to.
	default:
		return fmt.Errorf("drop %s %s: %w", e.Kind, e.Tag, err)
	}
	if _, err := t.Exec(ctx, `DELETE FROM crossfade.item WHERE id = $1`, e.ID); err != nil {
		return fmt.Errorf("record what was dropped: %w", err)
	}
	return nil
}
