package migration

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/replicate/copy"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// Findings are what was left out, and what the target has refused.
type Findings struct {
	task *Task

	findings []finding.Finding            // by this start
	refused  map[string][]finding.Finding // by stage: what a copy that continued could not make
}

// Notes says what on the target differs from the source, although nothing was refused.
func (m *Migration) Notes() (out []string) {
	m.Task.mu.Lock()
	defer m.Task.mu.Unlock()
	out = lists.Map(m.Findings.findings, finding.Finding.String)
	if m.Schema.catalog != nil && m.Schema.rewrite != nil {
		out = append(out, leftOut(m.Schema.catalog, *m.Schema.rewrite)...)
	}
	return out
}

// leftOut names what of the source is missing on the target, or differs there, although nothing was
// refused.
func leftOut(db *catalog.Database, w plan.Rewrite) []string {
	const byHand = ": is not copied; make it on the target when you need it there"
	out := lists.Map(db.Publications, func(name string) string { return "PUBLICATION " + name + byHand })
	for _, name := range db.Subscriptions {
		out = append(out, "SUBSCRIPTION "+name+byHand)
	}
	for _, name := range db.InvalidIndexes {
		out = append(out, "INDEX "+name.Display()+": is invalid on the source and not copied; REINDEX it there, or drop it")
	}
	for _, t := range db.Relations {
		if t.Persistence == catalog.Unlogged && !w.KeepUnlogged {
			out = append(out, "TABLE "+t.Name().Display()+": is unlogged on the source and logged on the target")
		}
		if t.Storage.Tablespace != "" {
			out = append(out, "TABLE "+t.Name().Display()+": is in tablespace "+t.Storage.Tablespace+" on the source and in the default one on the target")
		}
	}
	return out
}

// Stages of a one-shot copy that may be refused in part, in addition to the parts of the schema.
const (
	stageRows     = "rows"
	stageViews    = "materialised views"
	stageKeys     = "foreign keys"
	stageAside    = "set aside"
	stageIdentity = "identity columns"
)

// markRefused is what the journal keeps of a copy whose tables or rows were refused, which
// cannot be made good by going on.
const markRefused = "refused by the target"

// goesOn reports whether the target's refusal of one thing leaves the others to be done: in a
// one-shot copy, as pg_restore has it.
func (m *Task) goesOn() bool { return m.oneShot() && !m.Options.ExitOnError }

// refuse keeps what was refused in a stage, in the place of what an earlier attempt of it
// was refused.
func (m *Findings) refuse(stage string, refused []finding.Finding) {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	for _, f := range refused {
		m.task.Log.Error().Str("finding", f.String()).Msg("refused by the target")
	}
	if len(refused) == 0 {
		delete(m.refused, stage)
		return
	}
	lists.Put(&m.refused, stage, refused)
}

// refusedIn lists what was refused in a stage.
func (m *Findings) refusedIn(stage string) []finding.Finding {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	return m.refused[stage]
}

// Refusals lists all that was refused, in the order of the stages.
func (m *Findings) Refusals() (out []finding.Finding) {
	for _, stage := range []string{string(plan.PreData), stageRows, string(plan.AfterCopy), stageViews, stageAside, stageKeys, string(plan.Decision), string(plan.Last), stageIdentity} {
		out = append(out, m.refusedIn(stage)...)
	}
	return out
}

// withoutRefused leaves out of what is copied the tables that the target does not have.
func (m *Schema) withoutRefused() {
	refused := m.findings.refusedIn(string(plan.PreData))
	if len(refused) == 0 {
		return
	}
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	gone := withRows(m.Plan.Archive, func(e archive.Entry) bool {
		return slices.ContainsFunc(refused, func(f finding.Finding) bool { return f.ID == e.ID })
	})
	maps.DeleteFunc(m.dumped, func(oid uint32, _ bool) bool { return gone[oid] })
	leaveOut(m.catalog, func(oid uint32, _ string) bool { return gone[oid] })
}

// withRows are the numbers of those entries of an archive that is holds for and that have rows or a
// position.
func withRows(a *archive.Archive, is func(archive.Entry) bool) map[uint32]bool {
	return lists.SetOf(lists.Filter(a.Entries, func(e archive.Entry) bool {
		return slices.Contains([]string{"TABLE", "MATERIALIZED VIEW", "SEQUENCE"}, e.Kind) && is(e)
	}), func(e archive.Entry) uint32 { return e.OID })
}

// leaveOut removes relations, views and sequences from a catalog. extension is that of a sequence.
func leaveOut(db *catalog.Database, gone func(oid uint32, extension string) bool) {
	db.Relations = slices.DeleteFunc(db.Relations, func(r *catalog.Relation) bool { return gone(r.OID, "") })
	db.MatViews = slices.DeleteFunc(db.MatViews, func(v catalog.MatView) bool { return gone(v.OID, "") })
	db.Sequences = slices.DeleteFunc(db.Sequences, func(s catalog.Sequence) bool { return gone(s.OID, s.Extension) })
	db.Index()
}

// leaveRows empties a table whose rows the target refuses, and reports whether the copy continues
// with the other tables.
func (m *Rows) leaveRows(ctx context.Context, tables []copy.Table, cause error) (rest []copy.Table, goesOn bool) {
	var failed *copy.TableError
	if !m.task.goesOn() || !errors.As(cause, &failed) || !errors.Is(cause, copy.ErrWrite) || !restore.RefusedForGood(cause) || ctx.Err() != nil {
		return nil, false
	}
	at := slices.IndexFunc(tables, func(t copy.Table) bool { return t.Name == failed.Table })
	if at < 0 || m.schema.routes[tables[at].OID] != (pg.Name{}) {
		return nil, false
	}
	err := m.task.onTarget(ctx, func(target *pgx.Conn) error {
		if _, err := target.Exec(ctx, "TRUNCATE ONLY "+failed.Table.String()); err != nil {
			return err
		}
		if err := journal.SaveMark(ctx, target, markRefused, stageRows); err != nil {
			return err
		}
		return journal.Forget(ctx, target, tables[at].OID)
	})
	if err != nil {
		m.task.Log.Warn().Err(err).Str("relation", failed.Table.Display()).Msg("a table whose rows were refused could not be emptied")
		return nil, false
	}
	finding := finding.Finding{Kind: "ROWS", Schema: failed.Table.Schema, Name: failed.Table.Name, Message: said(cause), SQLSTATE: pg.Code(cause)}
	m.findings.refuse(stageRows, append(slices.Clone(m.findings.refusedIn(stageRows)), finding))
	return slices.Delete(slices.Clone(tables), at, at+1), true
}

// said is what the server said.
func said(err error) string {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pe.Message
	}
	return err.Error()
}

// incomplete is the error of a copy that has gone on after refusals, nil where there were
// none. What can be tried again is tried by the next start.
func (m *Migration) incomplete(ctx context.Context, target *pgx.Conn) error {
	all := m.Findings.Refusals()
	if len(all) == 0 {
		return nil
	}
	remedy := "remove the causes and run the same command again, which tries these alone"
	switch {
	case len(m.Findings.refusedIn(string(plan.PreData)))+len(m.Findings.refusedIn(stageRows)) > 0:
		remedy = "remove the causes, then crossfade clean and the same command"
		if err := journal.SaveMark(ctx, target, markRefused, stageRows); err != nil {
			return err
		}
	case len(m.Findings.refusedIn(string(plan.AfterCopy)))+len(m.Findings.refusedIn(stageViews)) > 0:
		if err := m.Task.reach(ctx, target, journal.PhaseCopied); err != nil {
			return err
		}
	}
	return &RefusedError{all, remedy + `; or keep the target as it is: DROP SCHEMA "crossfade" CASCADE there`}
}

// RefusedError says that a copy has done all but what the target has refused.
type RefusedError struct {
	Refused []finding.Finding
	remedy  string
}

func (e *RefusedError) Error() string {
	things := "1 thing"
	if n := len(e.Refused); n > 1 {
		things = fmt.Sprintf("%d things", n)
	}
	return fmt.Sprintf("the target has refused %s, and all else is there; the first: %s; %s", things, strings.TrimSuffix(e.Refused[0].String(), "; "), e.remedy)
}

// RefuseMarked refuses to continue a copy that lacks tables or rows which only another copy brings.
func RefuseMarked(ctx context.Context, target *pgx.Conn) error {
	mark, err := journal.LoadMark(ctx, target, markRefused)
	if err != nil || mark == "" {
		return err
	}
	return errors.New(`the copy that was made here lacks tables or rows that the target has refused: remove the causes, then crossfade clean and the same command; or keep the target as it is: DROP SCHEMA "crossfade" CASCADE there`)
}
