package daemon

import (
	"context"
	"errors"
	"strings"

	"crossfade/cutover"
	"crossfade/internal/control"
	"crossfade/internal/journal"
	"crossfade/replicate/apply"
)

// Status implements control.Daemon, from memory.
func (d *daemon) Status(context.Context) (control.Status, error) {
	c := d.coordinator.Status()
	p := d.proxy.Status()
	f, ferr := d.stream.status()
	d.mu.Lock()
	failed := d.failed
	d.mu.Unlock()
	s := control.Status{
		Phase: c.Phase, Active: string(c.Active), Epoch: c.Epoch, RunID: d.identity().target.RunID, Version: d.cfg.Version,
		Copy:     d.migration.copied(),
		Proxy:    control.Proxy{Sessions: p.Sessions, InTransaction: p.InTransaction, Parked: p.Parked},
		Ready:    c.Ready,
		Fallback: control.Fallback{State: "none"},
		Verify: control.Verify{State: verifyState(c.Verification.State), TablesDone: c.Verification.TablesDone,
			TablesTotal: c.Verification.TablesTotal, Differences: int64(c.Verification.Differences)},
	}
	s.Replication = replicationOf(f, ferr, failed, s.Active)
	if s.Copy.TablesTotal == 0 && d.migration.reached(journal.PhaseCopied) {
		s.Copy = d.migration.whole()
	}
	s.Verify.Waits, s.Verify.Tables = d.verify.waiting(), verifyTables(d.verify.unproved())
	d.guard.status(&s)
	still := d.standstill(s.Active == string(cutover.SideTarget))
	if s.Active != string(cutover.SideTarget) {
		if failed != nil {
			s.Phase = control.PhaseStopped
		}
		d.watchlist.status(&s)
		if c.Step.Code != "" && still == nil { // what stands still does not pass by waiting
			s.Blockers = append(s.Blockers, control.Blocker(c.Step))
		}
		for _, o := range c.Blocked {
			s.Blockers = append(s.Blockers, control.Blocker(o))
		}
	} else if still != nil {
		s.Blockers = append(s.Blockers, *still)
	}
	if s.Phase == "on_target" {
		s.Blockers = append(s.Blockers, d.finishBlockers(c, nil)...)
	}
	if c.Alarm != "" {
		s.Blockers = append(s.Blockers, control.Blocker{Code: "alarm", Detail: c.Alarm, Remedy: "find who wrote to the source behind the fence"})
	}
	return s, nil
}

// replicationOf puts the stream's position into the faces' words. What it was when a side
// was lost, or when the stream ended, is not what it is.
func replicationOf(f apply.Status, ferr, failed error, active string) control.Replication {
	r := control.Replication{State: "running", LagBytes: f.LagBytes, LagMS: f.LagMS}
	if f.AppliedLSN != 0 {
		r.AppliedLSN = f.AppliedLSN.String()
	}
	switch {
	case active == string(cutover.SideTarget):
		r.State = "ended"
	case failed != nil || ferr != nil && !errors.Is(ferr, errNotFollowing):
		r.State = "stopped"
	case ferr != nil:
		r.State = "none"
	case f.SourceConnected && f.TargetConnected:
		return r
	case f.Away != "": // whichever side was lost, the stream is connected to neither then
		r.State = f.Away + "_away"
	case f.SourceConnected:
		r.State = "target_away"
	case f.TargetConnected:
		r.State = "source_away"
	default:
		r.State = "none"
	}
	r.LagBytes, r.LagMS = control.Unknown, control.Unknown
	if r.State != "source_away" {
		r.AppliedLSN = ""
	}
	return r
}

func verifyTables(proofs []journal.Proof) []control.VerifyTable {
	var out []control.VerifyTable
	for _, p := range proofs {
		out = append(out, control.VerifyTable{Table: p.Table.Display(), Verdict: strings.ReplaceAll(p.Verdict, " ", "_"), Reason: p.Reason, Keys: p.Keys})
	}
	return out
}

// verifyState puts the cutover's word into the faces'.
func verifyState(s string) string {
	if s == "none" || s == "" {
		return "idle"
	}
	return s
}

// standstill says what keeps the migration from going on, nil for nothing. With
// onTarget nothing is followed any more.
func (d *daemon) standstill(onTarget bool) *control.Blocker {
	d.mu.Lock()
	failed := d.failed
	d.mu.Unlock()
	var given *givenUpError
	switch {
	case errors.As(failed, &given):
		return &control.Blocker{Code: given.Code, Detail: failed.Error(), Remedy: given.Remedy}
	case failed != nil:
		what, goesOn := d.migration.remedy(failed)
		switch {
		case what == "":
			what = "remove the cause, then " + goOnRun
		case goesOn:
			what += ", then " + goOnRun
		}
		return &control.Blocker{Code: "migration_stopped", Detail: failed.Error(), Remedy: what}
	}
	switch away := d.awayBlocker(); {
	case away != nil:
		return away
	case onTarget:
		return nil
	}
	if waits := d.waiting(); waits != nil {
		what, _ := d.migration.remedy(waits)
		return &control.Blocker{Code: "migration_waits", Detail: waits.Error(), Remedy: what + "; " + byItself}
	}
	if _, err := d.stream.status(); err != nil && err != errNotFollowing {
		return &control.Blocker{Code: "stream_stopped", Detail: err.Error(), Remedy: "remove the cause, then " + goOnRun}
	}
	return nil
}

// blocked says why a cutover asked for now would be refused besides the step, none for
// nothing. The coordinator asks: it must not be asked in turn.
func (d *daemon) blocked(cutover.Direction) []cutover.Obstacle {
	var found []control.Blocker
	still := d.standstill(false)
	if still != nil {
		found = append(found, *still)
	} else if !d.joined() {
		found = append(found, control.Blocker{Code: "not_ready", Detail: "the journals of both sides are being read", Remedy: "wait: it takes a moment"})
	}
	whole := d.migration.reached(journal.PhaseIndexed)
	found = append(found, d.watchlist.blocked(whole)...)
	if s, err := d.stream.status(); still == nil && whole {
		if err == nil {
			err = cutOff(s)
		}
		var apart *cutOffError
		switch {
		case errors.As(err, &apart):
			found = append(found, control.Blocker{Code: "stream_cut_off", Detail: err.Error(), Remedy: apart.remedy()})
		case err != nil:
			found = append(found, control.Blocker{Code: "stream_begins", Detail: err.Error(), Remedy: "wait: it begins within seconds"})
		}
	}
	out := make([]cutover.Obstacle, 0, len(found))
	for _, b := range found {
		out = append(out, cutover.Obstacle(b))
	}
	return out
}
