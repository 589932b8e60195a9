package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/lanes"
	"crossfade/internal/app/options"
	"crossfade/internal/app/undo"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/onedatabase"
	"crossfade/replicate/verify"
)

// Finish implements control.Daemon: it ends the migration permanently. What Crossfade made is
// dropped on both sides, except for the fence of the source, which is dropped only on request; the
// proxy continues to serve the target.
func (d *finisher) Finish(ctx context.Context, opt control.FinishOptions) (control.FinishReport, error) {
	s := d.core.coordinator.Status()
	if epoch, ok := d.entry.finishedEpoch(); ok && epoch != 0 && !opt.OpenSource { // by an earlier start
		return control.FinishReport{Kept: []string{keptServing}, Notes: []string{goesOnServing}}, nil
	}
	if away := d.entry.awayBlocker(); away != nil {
		return control.FinishReport{}, control.Refused(away.Detail, "make it reachable and run this again; meanwhile the active side is served")
	}
	if s.Active != machine.SideTarget {
		return control.FinishReport{}, control.Refused("the source is still active", "switch first, with crossfade cutover")
	}
	if err := d.refuseUnknownTables(ctx, s, opt.Accept); err != nil {
		return control.FinishReport{}, err
	}
	if err := d.refuseFinish(s, opt); err != nil {
		return control.FinishReport{}, err
	}
	journalled, err := d.journalled(ctx)
	if err != nil {
		return control.FinishReport{}, err
	}
	if err := refuseOneDatabase(ctx, d.watches.watchlist); err != nil {
		return control.FinishReport{}, err
	}
	if opt.Plan {
		return d.finishPlan(opt), nil
	}
	if journalled && s.State.Step != machine.Finished {
		if err := recordFinished(ctx, d.core.coordinator); err != nil {
			return control.FinishReport{}, err
		}
	}
	d.core.verify.End() // which continues if the finish was refused
	d.core.stream.End()
	if w := d.core.wayBack; w != nil {
		w.stream.End()
	}
	var r control.FinishReport
	if err := d.drop(ctx, opt.OpenSource, &r); err != nil {
		return r, &control.Error{Code: control.CodeIncomplete, Message: "not everything could be dropped: " + err.Error(), Remedy: "remove the cause and run crossfade finish again, or crossfade clean --force"}
	}
	if opt.OpenSource {
		r.Notes = append(r.Notes, "the source is no longer fenced: nothing stops a client that connects to it directly")
	}
	r.Notes = append(r.Notes, goesOnServing)
	return r, nil
}

// refuseOneDatabase refuses a finish whose two names have come to lead to one database: it would
// drop there what serves the applications.
func refuseOneDatabase(ctx context.Context, sides *watch.List) error {
	err := sides.Apart(ctx)
	if err == nil {
		return nil
	}
	message := err.Error()
	if one, ok := errors.AsType[*onedatabase.Error](err); ok {
		message, _ = one.Parts() // its remedy is that of a start, which may name another target
	}
	return control.Refused(message, "look at what the two connection strings lead to now, then run this again")
}

// recordFinished records that the migration is finished.
func recordFinished(ctx context.Context, c *cutover.Coordinator) error {
	if err := c.Advance(ctx, machine.Finished); err != nil {
		return control.Refused(err.Error(), "look at crossfade status")
	}
	return nil
}

// refuseUnknownTables refuses an --accept of a table that the comparison does not know: it would
// accept nothing.
func (d *finisher) refuseUnknownTables(ctx context.Context, s cutover.Status, accept []string) error {
	if len(accept) == 0 || s.State.Step == machine.Finished {
		return nil
	}
	tables, err := d.core.compared(ctx)
	if err != nil {
		return control.Refused("the tables that were moved cannot be read from the target: "+err.Error(), "make it reachable, then run this again")
	}
	known := lists.SetOf(tables, func(t verify.Table) string { return t.Name.Display() })
	for _, p := range d.core.verify.Unproved() {
		known[p.Table.Display()] = true
	}
	for _, name := range accept {
		if !known[name] {
			return &control.Error{Code: control.CodeUsage, Message: fmt.Sprintf("--accept=%s: no table of this name was moved", shellWord(name)),
				Remedy: "write it with its schema, as crossfade status names it"}
		}
	}
	return nil
}

// refuseFinish refuses a finish for the reasons that there are against it.
func (d *finisher) refuseFinish(s cutover.Status, opt control.FinishOptions) error {
	if opt.Force || s.State.Step == machine.Finished {
		return nil
	}
	if all := d.finishBlockers(s, opt.Accept); len(all) > 0 {
		return refusedFor("the finish", all)
	}
	return nil
}

// finishBlockers are the reasons why a finish asked for now would be refused. Tables that
// are named in accept, as Display writes them, need no proof.
func (d *finisher) finishBlockers(s cutover.Status, accept []string) []control.Blocker {
	var all []control.Blocker
	if left := d.core.left.Blockers(); len(left) > 0 {
		all = append(all, left...)
	} else if s.Waiting != "" || !d.core.migration.Task.Reached(journal.PhaseValid) {
		b := control.Blocker{Code: "target_not_whole", Detail: "the target is not whole yet: foreign keys are being validated, and what the decision left for later is done",
			Remedy: "wait until that is done"}
		if why := d.core.left.Waiting(); why != "" {
			b.Detail += "; " + why
			b.Remedy = "wait: it is tried again and again; it goes faster where the transactions that write to these tables end soon"
		}
		all = append(all, b)
	}
	different, unprovable := proofBlocker{}, proofBlocker{}
	for _, p := range d.core.verify.Unproved() {
		switch {
		case slices.Contains(accept, p.Table.Display()):
		case p.Verdict == "different":
			different.add(p)
		default:
			unprovable.add(p)
		}
	}
	if different.tables != nil {
		all = append(all, control.Blocker{Code: "tables_differ", Detail: "the two sides differ: " + different.String(),
			Remedy: "put these rows right on the target, then " + different.accepted()})
	}
	if unprovable.tables != nil {
		all = append(all, control.Blocker{Code: "tables_not_proved", Detail: "not proved to be equal: " + unprovable.String(),
			Remedy: "look at these tables on both sides, then " + unprovable.accepted()})
	}
	if v := s.Verification; v.State == "running" {
		b := control.Blocker{Code: "verify_running", Detail: fmt.Sprintf("the comparison of both sides is under way, %d of %d tables done", v.TablesDone, v.TablesTotal), Remedy: "wait until it has ended"}
		if left, ok := d.core.verify.Left(d.core.migration.Schema.Sizes()); ok {
			b.Remedy = fmt.Sprintf("wait: at its pace it ends in about %v", left)
		}
		if why := d.core.verify.Waiting(); why != "" {
			b.Detail += ", and does not continue: " + why
			b.Remedy = "remove the cause, and it continues by itself"
		}
		b.Remedy += unproved
		all = append(all, b)
	} else if verifyState(v.State) == "idle" {
		all = append(all, control.Blocker{Code: "verify_running", Detail: "the comparison of both sides has not begun yet", Remedy: "wait until it has ended; it begins by itself" + unproved})
	}
	return all
}

// unproved is what can be done instead of waiting for the comparison.
const unproved = "; crossfade finish --force ends the migration without the proof"

// proofBlocker names tables that have no proof.
type proofBlocker struct {
	tables []string
	words  []string
}

// proofKeys is how many keys of a table a blocker names; the log and status have more.
const proofKeys = 3

func (b *proofBlocker) add(p journal.Proof) {
	name := p.Table.Display()
	b.tables = append(b.tables, name)
	words := "table " + name + ": " + p.Reason
	if len(p.Keys) > 0 {
		words += " (" + strings.Join(p.Keys[:min(len(p.Keys), proofKeys)], ", ")
		if len(p.Keys) > proofKeys {
			words += ", …"
		}
		words += ")"
	}
	b.words = append(b.words, words)
}

func (b *proofBlocker) String() string { return strings.Join(b.words, "; ") }

// accepted is the command that finishes although there is no proof.
func (b *proofBlocker) accepted() string {
	command := "crossfade finish"
	for _, t := range b.tables {
		command += " --accept=" + shellWord(t)
	}
	return command
}

// shellWord quotes a word for a POSIX shell where that is needed.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// finishPlan says what a finish does.
func (d *finisher) finishPlan(opt control.FinishOptions) control.FinishReport {
	r := control.FinishReport{Dropped: []string{"source: replication slot " + d.entry.identity().Target.Slot, "source: publication " + journal.Publication, "target: fence, and most of schema " + journal.Schema}, Kept: []string{keptServing}}
	if opt.OpenSource {
		r.Dropped = append(r.Dropped, "source: fence and schema "+journal.Schema)
	} else {
		r.Dropped = append(r.Dropped, undo.DroppedTables)
		r.Kept = append(r.Kept, keptClosed)
	}
	return r
}

// keptClosed says what is left on the source, and how it is removed.
const keptClosed = "source: its fence: the source takes no writes; crossfade finish --open-source opens it, and so does crossfade clean --force later"

// keptServing says what is left on the target, and how it is removed.
const keptServing = "target: in schema " + journal.Schema + " what crossfade run needs to serve the target when it is started again, until crossfade clean"

// goesOnServing says what is still to be done.
const goesOnServing = "the proxy continues to serve the target; point the applications at the target, then stop it"

// journalled reports whether the source still has the run's row; an interrupted finish has dropped
// it. It refuses a source that does not answer, and one of another run: after a finish a start
// accepts any source, and the fence of another one must not be opened.
func (d *finisher) journalled(ctx context.Context) (bool, error) {
	run, err := dbconn.Ask(ctx, d.sessions.watching, func(ctx context.Context, conn *pgx.Conn) (*journal.SourceRun, error) {
		return journal.LoadSource(ctx, conn)
	})
	switch {
	case err != nil:
		return false, control.Refused("the source does not answer: "+err.Error(), "make it reachable and run this again; meanwhile the target is served")
	case run != nil && run.RunID != d.entry.identity().Target.RunID:
		return false, control.Refused(fmt.Sprintf("the database of --source belongs to run %s of Crossfade, and this one is %s", run.RunID, d.entry.identity().Target.RunID),
			"start crossfade run with the source that this target was moved from, then run this again")
	}
	return run != nil, nil
}

// drop removes what Crossfade made, and tells it in the report.
func (d *finisher) drop(ctx context.Context, openSource bool, r *control.FinishReport) error {
	ctx, cancel := context.WithTimeout(ctx, undo.CleanPatience)
	defer cancel()
	source, target, end, err := dbconn.Both(ctx, d.core.cfg.Source, d.core.cfg.Target, "finish")
	if err != nil {
		return err
	}
	defer end()
	if err := onedatabase.Refuse(ctx, source, target); err != nil {
		return err
	}
	sr, err := journal.LoadSource(ctx, source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	tell := func(object string) { r.Dropped = append(r.Dropped, object) }
	if openSource || sr == nil {
		err = undo.CleanSource(ctx, source, sr, d.entry.identity().Target, true, tell)
	} else if err = undo.CloseSource(ctx, source, d.entry.identity().Target.Slot, tell); err == nil {
		r.Kept = append(r.Kept, keptClosed)
	}
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	run, err := journal.LoadTarget(ctx, target)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	r.Kept = append(r.Kept, keptServing)
	if run != nil && run.Phase != journal.PhaseFinished {
		notes, err := d.core.users.Logins.HandOver(ctx, target)
		if err == nil {
			err = lanes.Drop(ctx, target, lanes.BackSlot(run.Slot), tell)
		}
		if err == nil {
			err = d.conclude(ctx, target, tell)
		}
		if err != nil {
			return fmt.Errorf("target: %w", err)
		}
		r.Notes = append(r.Notes, notes...)
	}
	d.core.migration.Task.SetPhase(journal.PhaseFinished)
	return nil
}

// conclude drops the target's fence, and of its journal what serving it does not need.
func (d *finisher) conclude(ctx context.Context, target *pgx.Conn, tell func(string)) error {
	n, err := journal.DropFence(ctx, target, d.core.quiet().Patience(d.sessions.marking, options.DefaultLockTimeout))
	if err != nil {
		return err
	}
	if n > 0 {
		tell(fmt.Sprintf("target: fence triggers of %d tables", n))
	}
	if err := journal.Conclude(ctx, target); err != nil {
		return err
	}
	tell("target: schema " + journal.Schema + ", but for what crossfade run needs to serve the target when it is started again")
	return nil
}
