package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/replicate/apply"
)

// Status implements control.Daemon, from memory.
func (d *answers) Status(context.Context) (control.Status, error) {
	c := d.core.coordinator.Status()
	p := d.core.proxy.Status()
	f, ferr := d.core.stream.Status()
	failed := d.core.failure()
	s := control.Status{
		Phase: c.Phase, Active: string(c.Active), Epoch: c.Epoch, RunID: d.entry.identity().Target.RunID, Version: d.core.cfg.Version,
		Copy:     d.core.migration.Rows.Copied(),
		Proxy:    control.Proxy{Sessions: p.Sessions, InTransaction: p.InTransaction, Parked: p.Parked},
		Ready:    c.Ready,
		Fallback: d.fallback(c.Active),
		Verify: control.Verify{State: verifyState(c.Verification.State), TablesDone: c.Verification.TablesDone,
			TablesTotal: c.Verification.TablesTotal, Differences: int64(c.Verification.Differences)},
	}
	s.ActiveAway = d.activeAway(c.Active)
	s.Replication = replicationOf(f, ferr, failed, s.Active)
	if s.Copy.TablesTotal == 0 && d.core.migration.Task.Reached(journal.PhaseCopied) {
		s.Copy = d.core.migration.Rows.Whole()
	}
	s.Verify.Waits, s.Verify.Tables = d.core.verify.Waiting(), verifyTables(d.core.verify.Unproved())
	d.watches.guard.Status(&s)
	d.verifyStatus(&s)
	if given := new(givenUpError); errors.As(failed, &given) { // it is a blocker by now
		s.Warnings = slices.DeleteFunc(s.Warnings, given.tells)
	}
	still := d.standstill(s.Active == string(machine.SideTarget))
	if s.Active != string(machine.SideTarget) {
		if failed != nil {
			s.Phase = control.PhaseStopped
		}
		d.watches.watchlist.Status(&s)
		if c.Step.Code != "" && still == nil { // what stands still does not pass by waiting
			s.Blockers = append(s.Blockers, c.Step)
		}
		s.Blockers = append(s.Blockers, c.Blocked...)
	} else if still != nil {
		s.Blockers = append(s.Blockers, *still)
	}
	if s.Phase == "on_target" {
		s.Blockers = append(s.Blockers, d.finisher.finishBlockers(c, nil)...)
	}
	switch b := alarmOf(c); {
	case b == nil:
	case c.Active == machine.SideSource: // the attempt was taken back, and what was written is followed
		s.Warnings = append(s.Warnings, *b)
	default:
		s.Blockers = append(s.Blockers, *b)
	}
	return s, nil
}

// alarmOf words for an operator what must not happen; nil for nothing.
func alarmOf(c cutover.Status) *control.Blocker {
	switch {
	case c.Alarm == "":
		return nil
	case c.Active == machine.SideTarget:
		return &control.Blocker{Code: "alarm", Detail: "the source was written after it was closed for good: " + c.Alarm + "; the target does not have that",
			Remedy: "find who wrote there, and write on the target what it lacks; this is told until crossfade run is started again"}
	case c.Active == machine.SideSource:
		return &control.Blocker{Code: "alarm", Detail: "the source was written while it was closed, in the last attempt, which was taken back: " + c.Alarm + "; the target gets that like any other change",
			Remedy: "find who can write there although the fence is closed, and keep it from that; then ask for the cutover again"}
	}
	return &control.Blocker{Code: "alarm", Detail: c.Alarm, Remedy: "start crossfade run of the release that wrote the journal"}
}

// replicationOf returns the stream's position for the status. A position from before a side was
// lost, or before the stream ended, is not shown as the present one.
func replicationOf(f apply.Status, ferr, failed error, active string) control.Replication {
	r := control.Replication{State: "running", LagBytes: f.LagBytes, LagMS: f.LagMS}
	if f.AppliedLSN != 0 {
		r.AppliedLSN = f.AppliedLSN.String()
	}
	switch {
	case active == string(machine.SideTarget):
		r.State = "ended"
	case failed != nil || ferr != nil && !errors.Is(ferr, ports.ErrNotFollowing):
		r.State = "stopped"
	case ferr != nil:
		r.State = "none"
	case f.SourceConnected && f.TargetConnected:
		return r
	case f.Away != "": // whichever side was lost, the stream is connected to neither then
		r.State = f.Away + "_away"
	default: // it has lost neither
		r.State = "connecting"
	}
	r.LagBytes, r.LagMS = control.Unknown, control.Unknown
	if r.State != "source_away" && (r.State != "connecting" || !f.TargetConnected) {
		r.AppliedLSN = ""
	}
	return r
}

func verifyTables(proofs []journal.Proof) []control.VerifyTable {
	return lists.Map(proofs, func(p journal.Proof) control.VerifyTable {
		return control.VerifyTable{Table: p.Table.Display(), Verdict: strings.ReplaceAll(p.Verdict, " ", "_"), Reason: p.Reason, Keys: p.Keys}
	})
}

// verifyState puts the cutover's word into the faces'.
func verifyState(s string) string {
	if s == "none" || s == "" {
		return "idle"
	}
	return s
}

// standstill says what keeps the migration from continuing, nil for nothing. With onTarget nothing
// is followed any more.
func (d *answers) standstill(onTarget bool) *control.Blocker {
	failed := d.core.failure()
	var given *givenUpError
	switch {
	case errors.As(failed, &given):
		return &control.Blocker{Code: given.Code, Detail: given.detail(), Remedy: given.Remedy}
	case failed != nil:
		what, goesOn := d.core.migration.Remedy(failed)
		switch {
		case what == "":
			what = "remove the cause, then " + watch.GoOnRun
		case goesOn:
			what += ", then " + watch.GoOnRun
		}
		return &control.Blocker{Code: "migration_stopped", Detail: failed.Error(), Remedy: what}
	}
	switch away := d.entry.awayBlocker(); {
	case away != nil:
		return away
	case onTarget:
		return d.targetLost()
	}
	if waits := d.follower.waiting(); waits != nil {
		what, _ := d.core.migration.Remedy(waits)
		return &control.Blocker{Code: "migration_waits", Detail: waits.Error(), Remedy: what + "; " + migration.ByItself}
	}
	if waits := d.follower.streamWaits(); waits != nil {
		return waits
	}
	if w := d.core.wayBack; w != nil && w.forward.Err() != nil {
		return &control.Blocker{Code: "stream_stopped", Detail: w.forward.Err().Error(), Remedy: "remove the cause, then " + watch.GoOnRun}
	}
	if _, err := d.core.stream.Status(); err != nil && err != ports.ErrNotFollowing {
		return &control.Blocker{Code: "stream_stopped", Detail: err.Error(), Remedy: "remove the cause, then " + watch.GoOnRun}
	}
	return nil
}

// blocked says why a cutover asked for now would be refused, other than because of its step; none
// for nothing. The coordinator calls it, so it must not call the coordinator.
func (d *answers) blocked(way machine.Direction) []machine.Obstacle {
	if way == machine.Reverse {
		return d.wayBackObstacles()
	}
	var found []control.Blocker
	still := d.standstill(false)
	if still != nil {
		found = append(found, *still)
	} else if !d.entry.joined() {
		found = append(found, control.Blocker{Code: "not_ready", Detail: "the journals of both sides are being read", Remedy: "wait: it takes a moment"})
	}
	whole := d.core.migration.Task.Reached(journal.PhaseIndexed)
	standing := len(found) > 0 // with that, nobody is asked
	var stream []control.Blocker
	if s, err := d.core.stream.Status(); still == nil && whole && d.entry.joined() {
		if err == nil {
			err = ports.CutOff(s)
		}
		var apart *ports.CutOffError
		switch {
		case errors.As(err, &apart):
			standing = true
			stream = append(stream, control.Blocker{Code: "stream_cut_off", Detail: err.Error(), Remedy: apart.Remedy()})
		case err != nil:
			stream = append(stream, control.Blocker{Code: "stream_begins", Detail: err.Error(), Remedy: "wait: it begins within seconds"})
		}
	}
	found = append(append(found, d.watches.watchlist.Blocked(whole && !standing)...), stream...)
	if w := d.core.wayBack; w != nil && whole && !standing && !w.back.Made() {
		found = append(found, control.Blocker{Code: "way_back_pending", Detail: "the way back is not made yet", Remedy: "wait: it is made once the phase is following; the log says what is in the way"})
	}
	return found
}

// explain says what server processes of the source do and wait for, for those whose
// transactions keep a drain from ending.
func (d *answers) explain(ctx context.Context, pids []int32) map[int32]string {
	words := map[int32]string{}
	err := d.sessions.sourceActivity.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		found, err := dbconn.LockWaits(ctx, conn, pids)
		for pid, w := range found {
			words[pid] = w.Details()
			if len(w.Holders) > 0 && w.Lock != "" {
				words[pid] += "; it waits: " + w.String()
			}
		}
		return err
	})
	if err != nil {
		d.core.log.Debug().Err(err).Msg("sessions that keep the drain from ending could not be inspected")
	}
	return words
}

// roundTrips measures how long each side takes to answer, 0 for one that does not.
func (d *answers) roundTrips(ctx context.Context) (took [2]time.Duration) {
	for i, l := range []*dbconn.Link{d.sessions.sourceActivity, d.sessions.marking} {
		_ = l.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			if err := conn.Ping(ctx); err != nil { // a session that has just been opened is slower
				return err
			}
			begun := time.Now()
			err := conn.Ping(ctx)
			if err == nil {
				took[i] = max(time.Since(begun), 1)
			}
			return err
		})
	}
	return took
}

// activeAway says why the applications have no database now, "" where they have one.
func (d *answers) activeAway(active machine.Side) string {
	if side, err := d.watches.pulse.Away(); err != nil && side == active {
		return err.Error()
	}
	if b := d.entry.awayBlocker(); b != nil && d.entry.missing == string(active) {
		return b.Detail
	}
	return ""
}

// targetLost is a blocker of everything where the target serves and is not there.
func (d *answers) targetLost() *control.Blocker {
	side, err := d.watches.pulse.Away()
	if err == nil || side != machine.SideTarget {
		return nil
	}
	return &control.Blocker{Code: "target_away", Detail: err.Error() + "; the applications have no database until it does",
		Remedy: "make it reachable; the applications are served again by themselves when it is"}
}
