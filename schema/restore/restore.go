package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"

	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

const (
	// batchEntries is how many entries, other than indexes and the like, share a round trip and a
	// transaction: the network distance to the target then does not matter, and little is repeated
	// after a failure.
	batchEntries = 64
	// deadlockAttempts bounds how often an entry is tried that the target gave up
	// to resolve a deadlock with another of ours or with its own vacuum.
	deadlockAttempts = 5
	// deadlockPause lets the other side of a deadlock finish.
	deadlockPause = 50 * time.Millisecond
)

// Config says where and how entries are restored.
type Config struct {
	// Conns are sessions at the target, at least one, none in a transaction and none used by others
	// while Restore runs. Their settings are as before when Restore returns. With more than one,
	// entries are restored in parallel, of the pre-data the tables only.
	Conns []*pgx.Conn
	plan.Rewrite
	// SkipMissingRoles makes privileges of a role that the target does not have a
	// harmless finding instead of a failure.
	SkipMissingRoles bool
	// Only, if set, picks the entries to restore. An entry whose dependencies are
	// neither picked nor done is left for a later call.
	Only func(*archive.Entry) bool
	// Source is the source's catalog, from which the sizes of tables are known; with
	// nil every table counts as large. It is used where entries are restored in
	// parallel only, as is what follows.
	Source *catalog.Database
	// Copied, if set, gives the oids on the source of tables as they are copied, and is
	// closed when all are; the sender never waits if it has room for all. Entries
	// of a table begin when it is copied. With nil everything is copied.
	Copied <-chan uint32
	// Analyze are the tables to analyse, each when its entries are done; a partitioned one includes
	// its partitions.
	Analyze []*catalog.Relation
	// GoOn makes the restore continue after a statement that the target refuses. Report.Refused
	// names it, and entries that need its object are not tried. None of them is recorded as
	// restored, so that a later call tries them again.
	GoOn bool
	// Recorded says that whatever is there was restored and recorded: with GoOn, what needs an
	// entry of an earlier part that is not recorded is not tried.
	Recorded bool
	Log      zerolog.Logger
}

// Report says what a restore did.
type Report struct {
	Done     int               // entries restored by this call
	Already  int               // entries that were restored before
	Waiting  int               // entries picked by Only whose dependencies are not there yet
	Findings []finding.Finding // all harmless
	Refused  []finding.Finding // with GoOn: what could not be made, in the archive's order
}

// Restore executes the entries of one part on the target, each together with its row in
// crossfade.item, and so continues after the last one when it is called again with the same
// archive. The first statement that the target refuses, and that is not harmless, stops it with a
// *Error, unless GoOn is set; entries that other sessions are working on are finished first.
//
// The part Decision may be restored in the same way if nothing writes to the target; its foreign
// keys are then validated at once, and in parallel with more than one session.
func Restore(ctx context.Context, p *plan.Plan, part plan.Part, cfg Config) (Report, error) {
	if len(cfg.Conns) == 0 {
		return Report{}, fmt.Errorf("restore %s: restore needs at least one session at the target", part)
	}
	r := &restorer{plan: p, part: part, cfg: cfg, refused: &refusals{ids: map[int]*archive.Entry{}}}
	done, err := Done(ctx, cfg.Conns[0])
	if err != nil {
		return Report{}, fmt.Errorf("restore %s: %w", part, err)
	}
	r.done = done
	if cfg.GoOn && cfg.Recorded {
		r.refused.missing(p, part, r.done)
	}
	for _, conn := range cfg.Conns {
		back, err := prepareSession(ctx, conn)
		if err != nil {
			return Report{}, fmt.Errorf("restore %s: %w", part, err)
		}
		defer back()
	}
	switch {
	case part == plan.PreData && len(cfg.Conns) > 1:
		err = r.sideBySide(ctx)
	case part == plan.AfterCopy || len(cfg.Conns) > 1: // an index takes long, so each commits by itself
		err = r.parallel(ctx)
	default:
		err = r.inOrder(ctx, cfg.Conns[0], r.pending())
	}
	r.report.Refused = r.refused.findings()
	if err != nil {
		return r.report, fmt.Errorf("restore %s: %w", part, err)
	}
	cfg.Log.Info().Str("part", string(part)).Int("done", r.report.Done).Int("already", r.report.Already).
		Int("findings", len(r.report.Findings)).Int("refused", len(r.report.Refused)).Msg("schema part restored")
	return r.report, nil
}

type restorer struct {
	plan    *plan.Plan
	part    plan.Part
	cfg     Config
	done    map[int]bool
	refused *refusals // shared by all that work on one part
	report  Report
}

// pending lists the entries of the part that are picked and not done.
func (r *restorer) pending() []*archive.Entry {
	var out []*archive.Entry
	for _, e := range r.plan.Entries(r.part) {
		switch {
		case r.cfg.Only != nil && !r.cfg.Only(e):
		case r.done[e.ID]:
			r.report.Already++
		default:
			out = append(out, e)
		}
	}
	return out
}

// inOrder restores entries in order on one session, in batches.
func (r *restorer) inOrder(ctx context.Context, conn *pgx.Conn, entries []*archive.Entry) error {
	for len(entries) > 0 {
		batch := entries[:min(batchEntries, len(entries))]
		entries = entries[len(batch):]
		err := r.execute(ctx, conn, lists.Map(r.possible(batch), r.script), func(committed ...script) {
			for _, s := range committed {
				r.record(s)
			}
			failpoint.Here("schema.restored")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// execute runs scripts in one transaction or, where that fails, each in its own, and hands on what
// has committed.
func (r *restorer) execute(ctx context.Context, conn *pgx.Conn, scripts []script, done func(committed ...script)) error {
	if len(scripts) > 1 {
		err := run(ctx, conn, scripts...)
		if err == nil {
			done(scripts...)
			return nil
		}
		if conn.IsClosed() || ctx.Err() != nil {
			return fmt.Errorf("execute entries %d to %d: %w", scripts[0].entry.ID, scripts[len(scripts)-1].entry.ID, err)
		}
	}
	for _, s := range scripts {
		left := len(r.report.Findings)
		if r.refused.any() && r.refused.lacks(s.entry) {
			continue
		}
		if err := r.one(ctx, conn, s); err != nil {
			if r.cfg.GoOn && r.refused.take(conn, s.entry, err) {
				continue
			}
			return err
		}
		if len(r.report.Findings) > left {
			s.half = false // it was left out as a whole
		}
		done(s)
	}
	return nil
}

// possible returns the entries for which nothing is missing.
func (r *restorer) possible(entries []*archive.Entry) []*archive.Entry {
	if !r.refused.any() {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), r.refused.lacks)
}

// record counts a script that has committed. Callers do not run at the same time.
func (r *restorer) record(s script) {
	r.done[s.entry.ID] = true
	r.report.Done++
	r.report.Findings = append(r.report.Findings, s.findings...)
}

// one executes a script in a transaction of its own. A harmless refusal is put
// into the script's findings and the entry recorded as done.
func (r *restorer) one(ctx context.Context, conn *pgx.Conn, s script) error {
	err := run(ctx, conn, s)
	for n := 1; n < deadlockAttempts && pg.IsCode(err, pg.CodeDeadlockDetected, pg.CodeSerializationFailure); n++ {
		if err := retry.Sleep(ctx, deadlockPause); err != nil {
			return err
		}
		err = run(ctx, conn, s)
	}
	if err == nil {
		return nil
	}
	refused, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return fmt.Errorf("execute %s %q: %w", s.entry.Kind, s.entry.Tag, err)
	}
	f := r.finding(s.entry, refused)
	there, err2 := r.present(ctx, conn, s, refused)
	if err2 != nil {
		return err2
	}
	if there.same {
		r.cfg.Log.Info().Str("kind", f.Kind).Str("object", f.Name).Msg("is there already as it should be")
		s.sql = there.rest
		err := run(ctx, conn, s)
		return pg.Wrap(err, "record %s %q", s.entry.Kind, s.entry.Tag)
	}
	if there.differs != "" {
		f.Message += ", and not as it should be: " + there.differs + "; wanted: " + strings.Join(strings.Fields(s.sql), " ")
		f.Remedy = "on the target: " + cmp.Or(there.drop, strings.TrimSuffix(strings.TrimSpace(s.entry.Drop), ";"))
	}
	if !f.Harmless {
		return &Error{Finding: f, Err: err}
	}
	r.cfg.Log.Warn().Str("kind", f.Kind).Str("object", f.Name).Str("sqlstate", f.SQLSTATE).Str("reason", f.Message).Msg("entry left out")
	if err := run(ctx, conn, script{entry: s.entry, part: s.part}); err != nil {
		return fmt.Errorf("record %s %q: %w", s.entry.Kind, s.entry.Tag, err)
	}
	r.report.Findings = append(r.report.Findings, f)
	return nil
}

func (r *restorer) finding(e *archive.Entry, refused *pgconn.PgError) finding.Finding {
	message := refused.Message
	if refused.Detail != "" && !strings.HasPrefix(refused.Code, classIntegrity) { // its detail quotes rows
		message += " (" + refused.Detail + ")"
	}
	if e.Kind == plan.KindProperties && refused.Code == pg.CodeInvalidParameter {
		message = "the target does not take the value" // which the server's message contains
	}
	missing := r.cfg.SkipMissingRoles && refused.Code == pg.CodeUndefinedObject && plan.MentionsRoles(e.Kind)
	return finding.Finding{ID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, Message: message, SQLSTATE: refused.Code,
		Harmless: harmless(e, refused.Code) || missing, Remedy: remedy(e, refused.Code)}
}
