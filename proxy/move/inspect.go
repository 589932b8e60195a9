package move

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/retry"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
)

// Bounds of a dry run.
const (
	// inspectTimeout bounds one inspection of all sessions, below what a control client waits.
	inspectTimeout = 3 * time.Second
	// inspectWait bounds the wait for the boundary of one session that was at one a
	// moment ago; one that has gone on shows what was known of it.
	inspectWait = 50 * time.Millisecond
	// maxInspections keeps a dry run from competing with the application.
	maxInspections = 8
	// verbPatience is how long an inspection waits for a verb of a move: it can do without.
	verbPatience = 100 * time.Millisecond
	// namesAge is how old the names of custom settings may be outside of an attempt.
	namesAge = time.Minute
	// watchPeriod is how often the states of sessions are sampled: Since has this precision, and
	// forwarding need not read a clock.
	watchPeriod = time.Second
	// reviveIdle is how long a session must have been idle after the switch for its state to be
	// captured, once in each idle period. Computes that are about to be suspended are idle for
	// longer, and a client that works never meets a capture.
	reviveIdle = 2 * time.Second
	// maxReviveCaptures bounds these captures: no caller waits for them.
	maxReviveCaptures = 4
)

// Sessions lists the sessions, oldest first. With inspect, sessions at a boundary whose present
// verdict is not known are captured first, a few at a time, and busy ones about which nothing is
// known at their next boundary. Each client is stopped for one capture at most, and none while the
// gate is closed. The verdict on any other is the last one known. An error of the dry run itself is
// not reported: the verdicts are then the last known ones.
func (p *Mover) Sessions(ctx context.Context, inspect bool) []session.Info {
	if inspect {
		p.inspect(ctx)
	}
	list := p.sessions.List()
	infos := make([]session.Info, 0, len(list))
	for _, r := range list {
		infos = append(infos, r.View.Known())
	}
	for _, s := range p.sessions.Streams() {
		infos = append(infos, s.Info())
	}
	slices.SortStableFunc(infos, func(a, b session.Info) int { return cmp.Compare(a.Session, b.Session) })
	return infos
}

// inspect captures the sessions that can be captured at once, and those about which nothing is
// known as soon as they reach a boundary: a busy one does so every few milliseconds.
func (p *Mover) inspect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	wanted := func(r *session.View) bool { return r.Unjudged() || r.Unknown() }
	list := lists.Filter(p.sessions.List(), func(r *session.Session) bool { return wanted(&r.View) })
	p.captureThose(ctx, list, maxInspections, wanted)
}

// captureThose captures those of the sessions that are still wanted, that reach a boundary soon and
// whose turn is free, at most limit at a time.
func (p *Mover) captureThose(ctx context.Context, list []*session.Session, limit int, wanted func(*session.View) bool) {
	if len(list) == 0 {
		return
	}
	catalogs, err := p.tryCatalogs(ctx, list)
	if err != nil {
		if !errors.Is(err, errVerbRuns) && ctx.Err() == nil {
			p.sessions.Log.Warn().Err(err).Msg("sessions not inspected")
		}
		return
	}
	var g errgroup.Group
	g.SetLimit(limit)
	for _, r := range list {
		g.Go(func() error {
			defer p.sessions.Recovered(r)
			if ctx.Err() != nil || !wanted(&r.View) {
				return nil
			}
			at, cancel := context.WithTimeout(ctx, inspectWait)
			owned, release, err := r.Owner.Own(at)
			cancel()
			if err != nil {
				return nil
			}
			defer release()
			// What cannot be captured keeps the verdict that it had.
			_ = r.Owner.Capture(context.WithoutCancel(owned), catalogs[r.Database], inspectWait)
			return nil
		})
	}
	_ = g.Wait()
}

var errVerbRuns = errors.New("a step of a move is under way")

// tryCatalogs is catalogsOf for callers other than the verbs. It does not wait for one, and asks
// again for what is old.
func (p *Mover) tryCatalogs(ctx context.Context, list []*session.Session) (map[string]*state.Catalog, error) {
	patience := time.NewTimer(verbPatience)
	defer patience.Stop()
	select {
	case p.verb <- struct{}{}:
		defer func() { <-p.verb }()
	case <-patience.C:
		return nil, errVerbRuns
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a := &p.attempt
	if a.paused {
		return nil, errVerbRuns
	}
	kept := a.catalogs
	if time.Since(p.attempt.asked) > namesAge {
		a.catalogs = nil
	}
	catalogs, err := p.catalogsOf(ctx, list)
	if err != nil {
		a.catalogs = kept
		return nil, err
	}
	for database, catalog := range kept {
		if _, ok := a.catalogs[database]; !ok {
			a.catalogs[database] = catalog
		}
	}
	return maps.Clone(catalogs), nil
}

// Watch samples the states of the sessions from time to time, and captures those that may have to
// be revived, until ctx ends.
func (p *Mover) Watch(ctx context.Context) {
	for now := range retry.Every(ctx, watchPeriod) {
		for _, r := range p.sessions.List() {
			r.View.Sample(now)
		}
		p.sweep(ctx, now)
	}
}

// sweep captures the sessions on the target that have been idle for a while and
// whose present state is not known.
func (p *Mover) sweep(ctx context.Context, now time.Time) {
	if p.sessions.Sides.Router.Current().Endpoint != side.Target {
		return
	}
	list := lists.Filter(p.sessions.List(), func(r *session.Session) bool { return r.View.IdleSince(now.Add(-reviveIdle)) && r.View.Unjudged() })
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	p.captureThose(ctx, list, maxReviveCaptures, (*session.View).Unjudged)
}
