package proxy

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"crossfade/proxy/session"
	"crossfade/proxy/wire"
)

// Bounds of a dry run.
const (
	// inspectTimeout bounds one look at all sessions, below what a control client waits.
	inspectTimeout = 3 * time.Second
	// inspectWait bounds the wait for the boundary of one session that was at one a
	// moment ago; one that has gone on shows what was known of it.
	inspectWait = 50 * time.Millisecond
	// maxInspections keeps a dry run from competing with the application.
	maxInspections = 8
	// verbPatience is how long a look waits for a verb of a move: it can do without.
	verbPatience = 100 * time.Millisecond
	// namesAge is how old the names of custom settings may be outside of an attempt.
	namesAge = time.Minute
	// watchPeriod is how often the states of sessions are looked at: what Since tells is
	// as coarse, and forwarding need not read a clock.
	watchPeriod = time.Second
)

// States of a session, as Sessions shows them.
const (
	StateIdle        = "idle"           // at a boundary
	StateActive      = "active"         // a reply is outstanding
	StateTransaction = "in_transaction" // between two statements of one
	StateParked      = "parked"         // held at the closed gate
	StateWaiting     = "waiting"        // parked, with a request of the client held
	StateReviving    = "reviving"       // its server is gone, another one is being made
	StateLeft        = "client_gone"    // its client has left, and its server is still at work
	StateReplication = "replication"    // a stream of its own kind
)

// VerdictUnknown is the verdict on a session that was never at rest when it was looked at.
const VerdictUnknown = "unknown"

// SessionInfo is one session as status shows it. It holds names, no values and no
// statements.
type SessionInfo struct {
	Session         uint64
	PID             uint32 // as the client knows it
	Client          string // address
	User            string // as the client knows them
	Database        string
	ApplicationName string
	Side            string // Source or Target
	ServerPID       int32
	Began           time.Time
	State           string
	Since           time.Time // of the state, to the second
	Verdict         string    // green, amber, hold, red or VerdictUnknown
	Reasons         []session.Reason
	// Checked is when the verdict was found. Stale says that the client has sent
	// something since.
	Checked time.Time
	Stale   bool
}

// String names the session, with the reasons why it cannot be moved.
func (s SessionInfo) String() string {
	var why []string
	for _, r := range s.Reasons {
		if !r.Verdict.Movable() {
			why = append(why, r.Detail)
		}
	}
	return SessionNote{Session: s.Session, User: s.User, Client: s.Client, Application: s.ApplicationName, ServerPID: s.ServerPID, Detail: strings.Join(why, "; ")}.String()
}

// judged is the last verdict on a session.
type judged struct {
	verdict session.Verdict
	reasons []session.Reason
	frames  uint64
	at      time.Time // zero: never
	whole   bool      // it can be made again on another server of the same side
}

// noFrames is no number of frames that a client has sent.
const noFrames = math.MaxUint64

// past makes the verdict one of the past, which is shown until there is a newer one and on
// which nothing else rests.
func (j *judged) past() { j.frames, j.whole = noFrames, false }

// seen is a session's state when it was last looked at.
type seen struct {
	state  string
	frames uint64
	since  time.Time
}

// Sessions lists the sessions, oldest first. With inspect, those at a boundary of
// which the present verdict is not known are captured first, and busy ones of which
// nothing is known at their next boundary, a few at a time: each
// client is stopped for one capture at most, and none while the gate is closed. The
// verdict on any other is the last one known. An error of the dry run itself is no
// error: then the verdicts are as old as they are.
func (p *Proxy) Sessions(ctx context.Context, inspect bool) []SessionInfo {
	if inspect {
		p.inspect(ctx)
	}
	list := p.relays()
	infos := make([]SessionInfo, 0, len(list))
	for _, r := range list {
		infos = append(infos, r.known())
	}
	for _, s := range p.streams() {
		infos = append(infos, s.info())
	}
	slices.SortStableFunc(infos, func(a, b SessionInfo) int { return cmp.Compare(a.Session, b.Session) })
	return infos
}

// known is info, with the verdict of whoever could not be logged in on the other side: that
// needs no capture.
func (r *relay) known() SessionInfo {
	s := r.info()
	if s.Side != Source {
		return s // behind the switch nobody is to move
	}
	if _, err := r.p.cfg.Target.account(r.user, r.proof); err != nil {
		s.Verdict, s.Stale = session.Red.String(), false
		s.Reasons = append([]session.Reason{{Verdict: session.Red, Code: "credentials", Detail: err.Error()}}, s.Reasons...)
		if s.Checked.IsZero() {
			s.Checked = time.Now()
		}
	}
	return s
}

func (r *relay) info() SessionInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observe(time.Now())
	s := SessionInfo{Session: r.id, PID: r.pid, Client: r.client.RemoteAddr().String(), User: r.user, Database: r.database,
		ApplicationName: r.mu.params["application_name"], Side: r.mu.server.endpoint.Name, ServerPID: r.mu.server.pid.Load(),
		Began: r.began, State: r.mu.seen.state, Since: r.mu.seen.since, Verdict: VerdictUnknown}
	if j := r.mu.judged; !j.at.IsZero() {
		s.Verdict, s.Reasons, s.Checked = j.verdict.String(), j.reasons, j.at
		s.Stale = j.frames != r.mu.tracker.ClientFrames()
	}
	return s
}

// observe notes the session's state. Called with mu locked.
func (r *relay) observe(now time.Time) {
	s := seen{state: r.state(), frames: r.mu.tracker.ClientFrames(), since: now}
	if r.mu.seen.state == "" {
		s.since = r.began
	}
	if s.state != r.mu.seen.state || s.frames != r.mu.seen.frames {
		r.mu.seen = s
	}
}

// state says what the session does. Called with mu locked.
func (r *relay) state() string {
	why := r.mu.tracker.Reason()
	switch {
	case r.mu.reviving:
		return StateReviving
	case r.mu.dead && why != "":
		return StateLeft
	case r.mu.gate && r.mu.waiting && why == "":
		return StateWaiting
	case r.mu.gate && r.still():
		return StateParked
	case why == wire.ReasonTransaction:
		return StateTransaction
	case why == "":
		return StateIdle
	}
	return StateActive
}

// judge keeps the verdict on what was captured. Called with mu locked.
func (r *relay) judge(s *session.State, frames uint64) {
	j := judged{frames: frames, at: time.Now()}
	j.verdict, j.reasons = s.Judge()
	j.whole = wholeAgain(s)
	r.mu.judged = j
}

// unjudged reports whether a capture now would tell more than is known.
func (r *relay) unjudged() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.mu.gate && r.reason() == "" && (r.mu.judged.at.IsZero() || r.mu.judged.frames != r.mu.tracker.ClientFrames())
}

// unknown reports whether nothing is known of the session, and it is not held.
func (r *relay) unknown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.mu.gate && r.mu.judged.at.IsZero()
}

// inspect captures the sessions that can be captured at once, and those of which nothing
// is known as soon as they come to a boundary: a busy one does so every few milliseconds.
func (p *Proxy) inspect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	wanted := func(r *relay) bool { return r.unjudged() || r.unknown() }
	var list []*relay
	for _, r := range p.relays() {
		if wanted(r) {
			list = append(list, r)
		}
	}
	p.captureThose(ctx, list, maxInspections, wanted)
}

// captureThose captures those of the sessions that are still wanted, that come to a boundary
// soon and that nobody else has the turn of, at most limit at a time.
func (p *Proxy) captureThose(ctx context.Context, list []*relay, limit int, wanted func(*relay) bool) {
	if len(list) == 0 {
		return
	}
	catalogs, err := p.tryCatalogs(ctx, list)
	if err != nil {
		if !errors.Is(err, errVerbRuns) && ctx.Err() == nil {
			p.log.Warn().Err(err).Msg("sessions not inspected")
		}
		return
	}
	var g errgroup.Group
	g.SetLimit(limit)
	for _, r := range list {
		g.Go(func() error {
			defer p.recovered(r)
			if ctx.Err() != nil || !wanted(r) {
				return nil
			}
			at, cancel := context.WithTimeout(ctx, inspectWait)
			owned, release, err := r.own(at)
			cancel()
			if err != nil {
				return nil
			}
			defer release()
			// What cannot be captured keeps the verdict that it had.
			_ = r.capture(context.WithoutCancel(owned), catalogs[r.database], inspectWait)
			return nil
		})
	}
	_ = g.Wait()
}

var errVerbRuns = errors.New("a step of a move is under way")

// tryCatalogs is catalogsOf for whoever is no verb. It does not wait for one, and asks
// again for what is old.
func (p *Proxy) tryCatalogs(ctx context.Context, list []*relay) (map[string]*session.Catalog, error) {
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

// watch looks at the states of the sessions from time to time, and captures those
// that may have to be revived, until ctx ends.
func (p *Proxy) watch(ctx context.Context) {
	t := time.NewTicker(watchPeriod)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			for _, r := range p.relays() {
				r.mu.Lock()
				r.observe(now)
				r.mu.Unlock()
			}
			p.sweep(ctx, now)
		}
	}
}
