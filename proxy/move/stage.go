package move

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"crossfade/internal/base/lists"
	"crossfade/proxy/ask"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
)

// Stage makes a warm server on the other side for every session, while sessions continue where they
// are: each is stopped at a boundary for one capture, the rest is done while it runs. A session
// that reaches no boundary in time is left to the pause (StageReport.Unstaged). Sessions that
// cannot be moved cause an *UnmovableError, or what the policy of the Attempt asks for; the report
// is filled in even then. Staging again brings warm servers up to date. If the other side takes
// fewer connections than the sessions need, nothing is made there and the error is a
// *ConnLimitError.
func (p *Mover) Stage(ctx context.Context, epoch int64) (StageReport, error) {
	end, err := p.begin(ctx, epoch, "stage")
	if err != nil {
		return StageReport{}, err
	}
	defer end()
	if epoch <= p.sessions.Sides.Router.Current().Epoch && epoch > 0 {
		return StageReport{}, &EpochError{Asked: epoch, Now: p.sessions.Sides.Router.Current().Epoch, What: "stage"}
	}
	start := time.Now()
	list, catalogs, err := p.survey(ctx)
	if err != nil {
		return StageReport{}, err
	}
	to := p.sessions.Sides.Other()
	if err := p.checkConnLimits(ctx, list, to); err != nil {
		return StageReport{}, err
	}
	f := p.newFindings()
	p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) {
		r.Owner.Settle(ctx)
		r.Owner.ForgetShapes() // what they return may have changed since the last attempt
		err := r.Owner.Capture(ctx, catalogs[r.Database], stageTimeout)
		var busy *session.BusyError
		switch {
		case errors.As(err, &busy):
			if !r.Ended() {
				f.add(&f.unstaged, r.Note("busy", busy.Reason))
			}
			return
		case err != nil:
			f.refuse(r, "capture", err)
			return
		}
		f.count(&f.captured)
		f.stage(ctx, r, to)
	})
	p.awaitHeld(ctx, f, catalogs, to)
	if err := ctx.Err(); err != nil {
		return StageReport{}, err
	}
	p.warnOfLosses(f.amber)
	return f.report(len(list), start), f.err()
}

// warnOfLosses says, once for each sort of loss, how many sessions move with it.
func (p *Mover) warnOfLosses(amber []session.Note) {
	first, count := map[string]string{}, map[string]int{}
	for _, n := range amber {
		if count[n.Code]++; count[n.Code] == 1 {
			first[n.Code] = n.String()
		}
	}
	for _, code := range slices.Sorted(maps.Keys(first)) {
		event := p.sessions.Log.Warn()
		if code == "sequence_values" { // which every application has that inserts, and hardly any reads
			event = p.sessions.Log.Info()
		}
		event.Str("code", code).Int("sessions", count[code]).Str("one", first[code]).Msg("sessions move with a loss")
	}
}

const (
	// stageTimeout bounds how long staging waits for one session's boundary; a
	// session in a long transaction is staged in the pause.
	stageTimeout = 2 * time.Second
)

// Restage, in the pause, captures the sessions that sent anything since their capture, stages those
// that are not, and takes over LISTEN and advisory locks of all. An error means that not every
// session can be moved: the attempt must be given up by Resume.
//
// Under UnmovableDisconnect it ends the sessions that cannot be moved, when all others can.
//
// Once it has returned nil, sessions live by what was captured of them: a server that goes
// away under one is not missed by Switch.
func (p *Mover) Restage(ctx context.Context, epoch int64) (StageReport, error) {
	end, err := p.begin(ctx, epoch, "restage")
	if err != nil {
		return StageReport{}, err
	}
	defer end()
	if !p.attempt.paused {
		return StageReport{}, errors.New("restage: the proxy is not paused")
	}
	start := time.Now()
	list, catalogs, err := p.survey(ctx)
	if err != nil {
		return StageReport{}, err
	}
	f, to := p.newFindings(), p.sessions.Sides.Other()
	p.each(ctx, list, p.cfg.MaxCaptures, func(ctx context.Context, r *session.Session) {
		// Notifications that were sent before all were parked arrive no later than the answer to a
		// capture: a session that listens is captured in any case.
		if r.Owner.ChangedSince() || len(r.Owner.State().Channels) > 0 {
			if err := r.Owner.Capture(ctx, catalogs[r.Database], stageTimeout); err != nil {
				f.refuse(r, "capture", err)
				return
			}
			f.count(&f.captured)
		}
		f.judge(r)
	})
	if err := errors.Join(ctx.Err(), f.err()); err != nil {
		return f.report(len(list), start), err
	}
	unmovable := f.holders()
	list = slices.DeleteFunc(list, func(r *session.Session) bool { return slices.Contains(unmovable, r) })
	p.each(ctx, list, 0, func(ctx context.Context, r *session.Session) {
		// What a warm server that answers lacks of the captured state is left to the switch.
		f.warm(ctx, r, to, r.Owner.Answers(ctx, to))
	})
	for _, release := range []bool{true, false} {
		if f.err() != nil || ctx.Err() != nil {
			break
		}
		p.each(ctx, list, 0, func(ctx context.Context, r *session.Session) {
			if err := r.Owner.Share(ctx, to, release); err != nil {
				f.refuse(r, "stage", err)
			}
		})
	}
	if err := errors.Join(ctx.Err(), f.err()); err != nil {
		return f.report(len(list), start), err
	}
	p.each(ctx, list, 0, func(_ context.Context, r *session.Session) { r.Owner.Keep() })
	p.expel(f)
	return f.report(len(list), start), nil
}

// Discard closes the warm servers. The next Stage makes new ones.
func (p *Mover) Discard(ctx context.Context) {
	p.sessions.Struck.End()
	p.each(ctx, p.sessions.List(), 0, func(_ context.Context, r *session.Session) {
		r.Owner.Discard()
	})
}

// learnTypes reads the numbers of types on both sides for each session's database, and
// for the one that the configuration names, once in an attempt, before anything is
// staged on the target. Called with the verbs' turn.
func (p *Mover) learnTypes(ctx context.Context, list []*session.Session) error {
	a, sides := &p.attempt, p.sessions.Sides
	if sides.Router.Current().Endpoint != side.Source {
		return nil // clients keep the numbers that they know
	}
	databases := []string{sides.Database}
	for _, r := range list {
		databases = append(databases, r.Database)
	}
	for _, database := range databases {
		callers := slices.DeleteFunc(sides.Callers(database, session.CallersOf(list)), func(who side.Caller) bool {
			_, err := sides.Target.Account(who.User, who.Proof)
			return err != nil // it cannot ask there; staging says that it cannot move
		})
		if a.types[database] || len(callers) == 0 {
			continue
		}
		var here []typemap.Type
		err := sides.AskAmong(ctx, &sides.Source, database, callers, func(ctx context.Context, l *state.Link) (err error) {
			here, err = ask.Types(ctx, l)
			return err
		})
		if err == nil {
			err = sides.Types.KeepTypes(ctx, database, here)
		}
		if err == nil {
			_, err = sides.MatchTypes(ctx, &sides.Target, database, callers, here)
		}
		if err != nil {
			return fmt.Errorf("compare the types of database %q: %w", database, err)
		}
		lists.Put(&a.types, database, true)
	}
	return nil
}

// survey returns the sessions that there are, and what is known of their databases. Called with
// the verbs' turn.
func (p *Mover) survey(ctx context.Context) ([]*session.Session, map[string]*state.Catalog, error) {
	list := p.sessions.List()
	catalogs, err := p.catalogsOf(ctx, list)
	if err == nil {
		err = p.learnTypes(ctx, list)
	}
	return list, catalogs, err
}

// newFindings returns the findings of an attempt, with those on replication connections.
func (p *Mover) newFindings() *findings {
	f := &findings{policy: p.attempt.policy}
	f.judgeStreams(p.sessions.Streams())
	return f
}
