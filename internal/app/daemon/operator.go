package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/replicate/verify"
	"crossfade/schema/catalog"
)

// Cutover implements control.Daemon.
func (d *daemon) Cutover(ctx context.Context, opt control.CutoverOptions, show func(control.Event)) (control.CutoverReport, error) {
	r, err := d.coordinator.Cutover(ctx, cutover.Options{Show: func(m cutover.Moment) { show(event(m)) }, DryRun: opt.DryRun, Rehearse: opt.Rehearse, AllowBypass: opt.AllowBypass, Unmovable: machine.Unmovable(opt.Unmovable),
		Limits: machine.Limits{DrainTimeout: opt.DrainTimeout(), Attempts: opt.Attempts, MaxPause: opt.MaxPause()}})
	var no *cutover.RefusedError
	switch {
	case errors.As(err, &no):
		return control.CutoverReport{}, refusedCutover(no)
	case errors.Is(err, cutover.ErrUndecided):
		return control.CutoverReport{}, &control.Error{Code: control.CodeIncomplete, Message: err.Error()}
	case err != nil:
		return control.CutoverReport{}, refused(err.Error(), "look at crossfade status and the daemon's log")
	}
	out := control.CutoverReport{Outcome: string(r.Outcome), Reason: r.Reason, Epoch: r.Epoch, PauseMS: r.PauseMS,
		Held:         control.Held{Sessions: r.Held.Sessions, P50MS: r.Held.P50MS, P99MS: r.Held.P99MS, MaxMS: r.Held.MaxMS},
		ClientErrors: r.ClientErrors, Ended: r.Ended, Disconnected: r.Disconnected, Unmovable: r.Unmovable, Tables: r.Tables, Sequences: r.Sequences, Incomplete: r.Incomplete, Notes: r.Notes}
	out.Transactions, out.Bypass, out.EstimateLeastMS, out.EstimateMostMS = r.Transactions, r.Bypass, r.EstimateLeastMS, r.EstimateMostMS
	for _, o := range r.Blockers {
		out.Blockers = append(out.Blockers, control.Blocker(o))
	}
	for _, t := range r.Attempts {
		out.Attempts = append(out.Attempts, attempt(t))
	}
	for _, m := range r.Timeline {
		out.Timeline = append(out.Timeline, event(m))
	}
	return out, nil
}

// refusedCutover tells why a cutover was not begun, each reason with its remedy.
func refusedCutover(no *cutover.RefusedError) error {
	all := make([]control.Blocker, 0, len(no.Obstacles))
	for _, o := range no.Obstacles {
		all = append(all, control.Blocker(o))
	}
	return refusedFor("the cutover", all)
}

// refusedFor tells why something was not begun, each reason with its remedy.
func refusedFor(what string, all []control.Blocker) error {
	e := &control.Error{Code: control.CodeRefused, Blockers: all}
	var details []string
	for _, b := range all {
		details = append(details, b.Detail)
	}
	if more := len(details) - watch.MostReasons; more > 0 {
		details = append(details[:watch.MostReasons], fmt.Sprintf("and %d more", more))
	}
	e.Message, e.Remedy = what+" is refused: "+strings.Join(details, "; "), "each has a remedy of its own, which crossfade status tells too"
	if len(all) == 1 {
		e.Remedy = all[0].Remedy
	}
	return e
}

// attempt leaves out what was not measured.
func attempt(t cutover.AttemptReport) control.Attempt {
	a := control.Attempt{Attempt: t.Attempt, Reason: t.Reason}
	if !t.ClosedAt.IsZero() {
		a.ClosedAt = &t.ClosedAt
		if t.PauseMS > 0 {
			a.PauseMS = &t.PauseMS
		}
	}
	if h := t.Held; h.Sessions > 0 {
		a.Held = &control.Held{Sessions: h.Sessions, P50MS: h.P50MS, P99MS: h.P99MS, MaxMS: h.MaxMS}
	}
	return a
}

func event(m cutover.Moment) control.Event {
	return control.Event{Step: m.Step, AtMS: m.AtMS, Detail: m.Detail, At: m.At, Attempt: m.Attempt}
}

// Limits implements control.Daemon.
func (d *daemon) Limits(_ context.Context, c control.LimitsChange) (control.Limits, error) {
	return d.guard.Change(c), nil
}

// Sessions implements control.Daemon.
func (d *daemon) Sessions(ctx context.Context) ([]control.Session, error) {
	var out []control.Session
	for _, s := range d.proxy.Sessions(ctx, true) {
		c := control.Session{ID: s.Session, Client: s.Client, User: s.User, Database: s.Database, ApplicationName: s.ApplicationName,
			Started: s.Began, State: s.State, Since: s.Since, Side: s.Side, ServerPID: s.ServerPID, Verdict: s.Verdict, Stale: s.Stale}
		for _, why := range s.Reasons {
			c.Reasons = append(c.Reasons, control.SessionReason{Verdict: why.Verdict.String(), Code: why.Code, Detail: why.Detail})
		}
		if !s.Checked.IsZero() {
			c.Checked = &s.Checked
		}
		out = append(out, c)
	}
	return out, nil
}

// tables lists what a comparison covers.
func (m *migration) tables() []verify.Table {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.catalog == nil {
		return nil
	}
	var out []verify.Table
	var oids []uint32
	for _, r := range m.catalog.Relations {
		if r.Kind != catalog.KindTable || r.Persistence != catalog.Permanent { // what is unlogged is in no stream
			continue
		}
		t := verify.Table{Name: r.Name(), Key: r.Identity}
		for _, c := range r.Columns {
			if c.Generated != 'v' {
				t.Columns = append(t.Columns, c.Name)
			}
		}
		out, oids = append(out, t), append(oids, r.OID)
	}
	return m.together(out, oids)
}

// sizes are those that the tables had when the catalog was read.
func (m *migration) sizes() map[pg.Name]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	sizes := map[pg.Name]int64{}
	if m.catalog != nil {
		for _, r := range m.catalog.Relations {
			sizes[r.Name()] = r.Bytes
		}
	}
	return sizes
}

// whole are the figures of a copy that an earlier start has ended.
func (m *migration) whole() control.Copy {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c control.Copy
	if m.catalog == nil || !m.phase.AtLeast(journal.PhaseCopied) {
		return c
	}
	for _, r := range m.catalog.Relations {
		if r.Kind == 'r' {
			c.TablesTotal++
			c.BytesTotal += r.Bytes
		}
	}
	c.TablesDone, c.BytesDone = c.TablesTotal, c.BytesTotal
	c.TablesRestarted, c.TablesRepaired, c.KeysRepaired = m.past.TablesRestarted, m.past.TablesRepaired, m.past.KeysRepaired
	return c
}
