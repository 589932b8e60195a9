package daemon

import (
	"context"
	"errors"

	"crossfade/cutover"
	"crossfade/internal/control"
	"crossfade/internal/journal"
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
		Phase: c.Phase, Active: string(c.Active), Epoch: c.Epoch, RunID: d.id.target.RunID, Version: d.cfg.Version,
		Copy:     d.migration.copied(),
		Proxy:    control.Proxy{Sessions: p.Sessions, InTransaction: p.InTransaction, Parked: p.Parked},
		Ready:    c.Ready,
		Fallback: control.Fallback{State: "none"},
		Verify: control.Verify{State: verifyState(c.Verification.State), TablesDone: c.Verification.TablesDone,
			TablesTotal: c.Verification.TablesTotal, Differences: int64(c.Verification.Differences)},
	}
	s.Replication = control.Replication{LagBytes: f.LagBytes, LagMS: f.LagMS}
	if f.AppliedLSN != 0 {
		s.Replication.AppliedLSN = f.AppliedLSN.String()
	}
	if s.Copy.TablesTotal == 0 && d.migration.reached(journal.PhaseCopied) {
		s.Copy = d.migration.whole()
	}
	d.guard.status(&s)
	notReady := !c.Ready && c.Why != "" && failed == nil && s.Phase != "on_target" && s.Phase != string(cutover.Finished)
	step, _ := c.State.Ready() // not what refuses besides, which has blockers with remedies of its own
	if notReady && !step {
		s.Blockers = append(s.Blockers, control.Blocker{Code: "not_ready", Detail: c.Why, Remedy: "wait, and look at the phase"})
	}
	var given *givenUpError
	if errors.As(failed, &given) {
		s.Blockers = append(s.Blockers, control.Blocker{Code: given.Code, Detail: failed.Error(), Remedy: given.Remedy})
	} else if failed != nil {
		what, goesOn := d.migration.remedy(failed)
		switch {
		case what == "":
			what = "mend the cause, then " + goOnRun
		case goesOn:
			what += ", then " + goOnRun
		}
		s.Blockers = append(s.Blockers, control.Blocker{Code: "migration_stopped", Detail: failed.Error(), Remedy: what})
	} else if waits := d.waiting(); waits != nil && s.Active != "target" {
		what, _ := d.migration.remedy(waits)
		s.Blockers = append(s.Blockers, control.Blocker{Code: "migration_waits", Detail: waits.Error(), Remedy: what + "; " + byItself})
	} else if ferr != nil && ferr != errNotFollowing && s.Active != "target" {
		s.Blockers = append(s.Blockers, control.Blocker{Code: "stream_stopped", Detail: ferr.Error(), Remedy: "mend the cause, then stop crossfade run and start it again"})
	}
	if s.Active != "target" {
		d.watchlist.status(&s)
	}
	if notReady && step && len(s.Blockers) == 0 {
		s.Blockers = append(s.Blockers, control.Blocker{Code: "not_ready", Detail: c.Why, Remedy: "wait, and look at the phase"})
	}
	if c.Alarm != "" {
		s.Blockers = append(s.Blockers, control.Blocker{Code: "alarm", Detail: c.Alarm, Remedy: "find who wrote to the source behind the fence"})
	}
	return s, nil
}

// verifyState puts the cutover's word into the faces'.
func verifyState(s string) string {
	if s == "none" || s == "" {
		return "idle"
	}
	return s
}

// blocked says why a cutover asked for now would be refused, "" for nothing.
func (d *daemon) blocked(cutover.Direction) string {
	d.mu.Lock()
	failed := d.failed
	d.mu.Unlock()
	if failed != nil {
		return "the migration has stopped: " + failed.Error()
	}
	if why := d.watchlist.blocked(d.migration.reached(journal.PhaseIndexed)); why != "" {
		return why
	}
	s, err := d.stream.status()
	if err == nil {
		err = cutOff(s)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
