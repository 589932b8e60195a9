package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/app/check"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
)

// open connects to both sides, becomes the leader of the source, and finds the
// run or begins one. What a failed beginning made is removed again. A side that is away is
// not waited for where the other one's journal holds the run: join does that.
func (d *entry) open(ctx context.Context) error {
	return dbconn.WhileAway(ctx, d.core.log, func(ctx context.Context, letIn func()) error {
		d.lead.Close()
		d.id = runs.Identity{}
		d.tag("")
		return d.openOnce(ctx, letIn)
	})
}

// tag makes the sessions that are opened from now on say which run and start they belong to.
func (d *entry) tag(run string) {
	t := journal.Tag(run, d.core.incarnation[:runs.IncarnationLetters])
	d.core.cfg.Source, d.core.cfg.Target = d.plain[0].WithTag(t), d.plain[1].WithTag(t)
}

// dialled is a side that was dialled.
type dialled struct {
	conn *pgx.Conn
	err  error
}

// dial logs in to both sides at once. One that does not answer within awayPatience is taken to be
// away where the other one holds a journal.
func (d *entry) dial(ctx context.Context) (source, target dialled) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := [2]chan dialled{make(chan dialled, 1), make(chan dialled, 1)}
	for i, end := range []struct {
		dsn  pg.DSN
		name string
	}{{d.core.cfg.Source, runs.LeadName()}, {d.core.cfg.Target, "open"}} {
		go func() {
			conn, err := pg.Connect(ctx, end.dsn, pg.WithName(end.name))
			ends[i] <- dialled{conn, err}
		}()
	}
	var sides [2]dialled
	first := 0
	select {
	case sides[0] = <-ends[0]:
	case sides[1] = <-ends[1]:
		first = 1
	}
	other := 1 - first
	if sides[first].conn != nil {
		patience := time.NewTimer(awayPatience)
		defer patience.Stop()
		select {
		case sides[other] = <-ends[other]:
			return sides[0], sides[1]
		case <-patience.C:
		}
		if there, err := journal.Installed(ctx, sides[first].conn); err == nil && there {
			cancel()
			if late := <-ends[other]; late.conn != nil {
				sides[other] = late
			} else {
				sides[other].err = fmt.Errorf("connect to %s: no answer within %v", [2]pg.DSN{d.core.cfg.Source, d.core.cfg.Target}[other].Redacted(), awayPatience)
			}
			return sides[0], sides[1]
		}
	}
	sides[other] = <-ends[other]
	return sides[0], sides[1]
}

// openOnce is one attempt; letIn is called when both sides have let us in.
func (d *entry) openOnce(ctx context.Context, letIn func()) error {
	source, target := d.dial(ctx)
	led := false // the source's session belongs to the leader
	defer func() {
		dbconn.CloseNow(target.conn)
		if !led {
			dbconn.CloseNow(source.conn)
		}
	}()
	switch {
	case target.conn == nil && source.conn == nil:
		return exit.NotComplete(fmt.Errorf("neither side lets us in, so that it is not known whether they hold a run: source: %w; target: %w; "+
			"make one of them reachable and start this again, as a supervisor may as long as this exits with %d", source.err, target.err, exit.CodeNotComplete))
	case target.conn == nil:
		var err error
		led, err = d.openWithoutTarget(ctx, source.conn, fmt.Errorf("target: %w", target.err))
		return err
	case source.conn == nil:
		return d.openWithoutSource(ctx, target.conn, fmt.Errorf("source: %w", source.err))
	}
	letIn()
	id, err := d.joinSides(ctx, source.conn, target.conn, true, func() error {
		if err := runs.LeadSoon(ctx, source.conn, d.core.log); err != nil {
			return fmt.Errorf("source: %w", err)
		}
		d.lead.Take(source.conn)
		led = true
		return nil
	})
	if err != nil {
		return err
	}
	d.tag(id.Target.RunID)
	d.found(id)
	return nil
}

// found takes the run that both journals describe.
func (d *entry) found(id runs.Identity) {
	d.core.mu.Lock()
	defer d.core.mu.Unlock()
	d.id, d.away = id, nil
}

// identity returns the run as it is known now.
func (d *entry) identity() runs.Identity {
	d.core.mu.Lock()
	defer d.core.mu.Unlock()
	return d.id
}

// key returns the run's key, "" while the target's journal has not been read.
func (d *entry) key() string { return d.identity().Target.Key }

// joinSides finds the run that both sides belong to, or begins one where that is allowed, and
// brings logins and settings up to date. lead is called before anything is done, and makes this
// process the leader.
func (d *entry) joinSides(ctx context.Context, source, target *pgx.Conn, mayBegin bool, lead func() error) (runs.Identity, error) {
	if err := onedatabase.Refuse(ctx, source, target); err != nil {
		return runs.Identity{}, err
	}
	tr, err := journal.LoadTarget(ctx, target)
	if err != nil {
		return runs.Identity{}, fmt.Errorf("target: %w", err)
	}
	if tr != nil && tr.Phase == journal.PhaseFinished { // the source is not needed any more
		return runs.Identity{Target: tr}, d.openFinished(ctx, source, target, tr)
	}
	if err := lead(); err != nil {
		return runs.Identity{}, err
	}
	id, err := d.belonging(ctx, source, target) // no sessions of others are ended
	if err != nil {
		return id, err
	}
	if err := d.endPredecessors(ctx, id, source, target); err != nil {
		return id, err
	}
	if id, err = d.belonging(ctx, source, target); err != nil {
		return id, err
	}
	return d.prepareRun(ctx, source, target, id, mayBegin)
}

// belonging reads both journals and refuses databases that are not those of one run.
func (d *entry) belonging(ctx context.Context, source, target *pgx.Conn) (runs.Identity, error) {
	id, err := runs.Find(ctx, source, target, d.core.cfg.Source, d.core.cfg.Target)
	switch {
	case err != nil || id.Target == nil:
		return id, err
	case id.Target.Mode != runs.ModeRun:
		return id, runs.RefuseOtherKind(ctx, source, target)
	}
	return id, runs.CheckSystem(ctx, id, d.core.cfg.Source) // of a start that was cut short, the source may be another
}

// prepareRun begins the run where there is none, and brings logins and settings up to date.
func (d *entry) prepareRun(ctx context.Context, source, target *pgx.Conn, id runs.Identity, mayBegin bool) (runs.Identity, error) {
	begin := id.Source == nil && !(id.Target != nil && id.Target.Phase.AtLeast(journal.PhaseSwitched))
	if begin && !mayBegin {
		return id, errors.New("the source holds nothing of the run that the target holds: remove what it left with crossfade clean, and start it again")
	}
	if err := d.askUnknownRoles(ctx, source, begin); err != nil {
		return id, err
	}
	if begin {
		if id.Target != nil { // the beginning before this one may have made roles
			if err := d.core.users.Logins.Load(ctx, target); err != nil {
				return id, err
			}
		}
		if err := d.core.users.Logins.TryThere(ctx, source, target); err != nil {
			return id, err
		}
		if err := check.Refuse(ctx, d.core.cfg, inquiry.Options{Mode: inquiry.Run, Logins: d.core.users.Survey(), Resume: id.Target != nil, LargeObjects: d.core.cfg.LargeObjects, Fallback: d.core.cfg.Change.Fallback}, d.core.cfg.CopyOptions(), d.core.log); err != nil {
			return id, err
		}
		if err := runs.Install(ctx, source, target, &id, d.core.cfg.Source, runs.ModeRun, ""); err != nil {
			return id, errors.Join(err, d.takeBack(ctx, source, target))
		}
	}
	d.versions = [2]int{pg.ServerVersion(source), pg.ServerVersion(target)}
	var err error
	if !id.Target.Phase.AtLeast(journal.PhaseSwitched) {
		if err = d.core.users.Logins.Ensure(ctx, source, target); err == nil {
			err = d.core.users.Pin(ctx, target, d.core.log)
		}
	} else {
		err = d.core.users.Load(ctx, target)
	}
	if err != nil && begin {
		return id, errors.Join(err, d.takeBack(ctx, source, target))
	}
	return id, err
}

// askUnknownRoles refuses to begin with roles that the source does not have. A run that is
// continued works without them.
func (d *entry) askUnknownRoles(ctx context.Context, source *pgx.Conn, begin bool) error {
	if len(d.core.cfg.MapRole)+len(d.core.cfg.AcceptRights) == 0 {
		return nil
	}
	list, _, err := journal.ReadRoles(ctx, source)
	if err != nil {
		return err
	}
	unknown := d.core.cfg.Logins().UnknownRoles(list)
	switch {
	case unknown == nil:
	case begin:
		return exit.Usage(unknown)
	default:
		d.core.log.Warn().Err(unknown).Msg("a role that a flag names is none of the source's")
	}
	return nil
}

// openFinished reads from the target what serving it needs after a finish.
func (d *entry) openFinished(ctx context.Context, source, target *pgx.Conn, run *journal.TargetRun) error {
	if source != nil {
		if err := runs.CheckSystem(ctx, runs.Identity{Target: run}, d.core.cfg.Source); err != nil {
			d.core.log.Warn().Err(err).Msg("the migration to this target is finished, and the target is served; this source is not moved")
		}
	}
	d.versions[1] = pg.ServerVersion(target)
	last, err := journal.LastCommit(ctx, target)
	if err != nil {
		return err
	}
	d.lastEpoch = last.Epoch
	return d.core.users.Load(ctx, target)
}

// finishedEpoch returns the last epoch of a run that an earlier start has finished.
func (d *entry) finishedEpoch() (epoch int64, ok bool) {
	if d.identity().Target.Phase != journal.PhaseFinished { // asked first: a side that comes late is read at any time
		return 0, false
	}
	return d.lastEpoch, true
}

// endPredecessors ends what an earlier start has left in both databases, before anything else is
// checked. A nil session belongs to a side that is away.
func (d *entry) endPredecessors(ctx context.Context, id runs.Identity, source, target *pgx.Conn) error {
	run := ""
	switch {
	case id.Source != nil:
		run = id.Source.RunID
	case id.Target != nil:
		run = id.Target.RunID
	}
	return runs.EndPredecessors(ctx, d.core.log, run, d.core.incarnation[:runs.IncarnationLetters], source, target)
}

// refusedLogin reports whether a server has refused a login in a way that does not pass by itself:
// it is not away.
func refusedLogin(err error) bool {
	return pg.IsCode(err, pg.CodeInvalidPassword, pg.CodeInvalidAuthorization, pg.CodeInvalidCatalog) || pg.NeonRefusesLogin(err)
}

// openWithoutTarget continues when the source holds the run and the target is away: the source says
// which side is active, and is served if it is the source itself. led says that the session belongs
// to the leader from now on. A target that refuses the login is treated as away: a running daemon
// does not need it either.
func (d *entry) openWithoutTarget(ctx context.Context, source *pgx.Conn, cause error) (led bool, err error) {
	run, err := journal.LoadSource(ctx, source)
	if err != nil || run == nil {
		return false, errors.Join(cause, err)
	}
	if err := runs.LeadSoon(ctx, source, d.core.log); err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	d.lead.Take(source)
	if err := d.endPredecessors(ctx, runs.Identity{Source: run}, source, nil); err != nil {
		return true, err
	}
	if run, err = journal.LoadSource(ctx, source); err != nil || run == nil {
		return true, errors.Join(cause, err)
	}
	// What the target's journal would say, as far as the source's says the same. The key, for one,
	// it does not have.
	phase := journal.PhaseStarted
	if step := machine.StepName(run.Step); step == machine.Decided || step == machine.Finished {
		phase = journal.PhaseSwitched
	}
	d.id = runs.Identity{Source: run, Target: &journal.TargetRun{RunID: run.RunID, Mode: runs.ModeRun, Slot: journal.SlotPrefix + run.RunID, Phase: phase}}
	d.tag(run.RunID)
	d.versions[0] = pg.ServerVersion(source)
	d.missing, d.away = sideTarget, cause
	d.core.log.Warn().Err(cause).Str("step", run.Step).Msg("the target does not answer; the run continues when it does, and the source is served if it is the active side")
	return true, nil
}

// openWithoutSource continues when the target holds the run. If the target is the active side it is
// served; otherwise the clients wait for the source. A source that refuses the password does not
// count as away: applications log in with that password, and none of them could.
func (d *entry) openWithoutSource(ctx context.Context, target *pgx.Conn, cause error) error {
	if refusedLogin(cause) {
		return cause
	}
	run, err := journal.LoadTarget(ctx, target)
	if err != nil || run == nil || run.Mode != runs.ModeRun || run.Phase == journal.PhaseStarted {
		return errors.Join(cause, err)
	}
	d.id = runs.Identity{Target: run}
	d.tag(run.RunID)
	if run.Phase == journal.PhaseFinished {
		return d.openFinished(ctx, nil, target, run)
	}
	d.versions[1] = pg.ServerVersion(target)
	d.missing, d.away = sideSource, cause
	if run.Phase.AtLeast(journal.PhaseSwitched) {
		d.core.log.Warn().Err(cause).Msg("the source does not answer; the target is active, so the applications are served")
	} else {
		d.core.log.Warn().Err(cause).Msg("the source does not answer; the applications wait for it")
	}
	return d.core.users.Load(ctx, target)
}

// takeBack removes what a failed beginning made.
func (d *entry) takeBack(ctx context.Context, source, target *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbconn.CloseTimeout)
	defer cancel()
	return errors.Join(logins.DropLogins(ctx, target, func(string) {}), journal.Uninstall(ctx, source), journal.Uninstall(ctx, target))
}

// awayPatience is how long a start waits for one side to answer before it continues with the
// journal of the other: longer than most computes need to wake, and short for applications that
// find the port closed.
const awayPatience = 3 * time.Second
