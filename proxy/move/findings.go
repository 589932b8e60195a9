package move

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/proxy/ask"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
)

// findings collects what the owners of many sessions found. Safe for concurrent use.
type findings struct {
	policy Unmovable

	mu           sync.Mutex
	captured     int
	staged       int
	disconnected int
	unstaged     []session.Note
	unmovable    []session.Note
	amber        []session.Note
	// held are sessions that cannot be moved and that the policy lets be.
	held    map[*session.Session][]session.Note
	streams []*session.Stream // replication connections that the policy lets be
}

func (f *findings) add(list *[]session.Note, n session.Note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*list = append(*list, n)
}

func (f *findings) count(n *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*n++
}

func (f *findings) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.unmovable) > 0 {
		return &UnmovableError{Sessions: f.unmovable}
	}
	if left := f.notes(); f.policy == UnmovableWait && len(left) > 0 {
		return &HeldError{Sessions: left}
	}
	return nil
}

// notes are the sessions that the policy lets be. Called with mu locked.
func (f *findings) notes() []session.Note {
	var list []session.Note
	for r, notes := range f.held {
		if f.policy == UnmovableDisconnect || !r.Ended() {
			list = append(list, notes...)
		}
	}
	for _, s := range f.streams {
		if f.policy == UnmovableDisconnect || !s.Ended() {
			list = append(list, s.Note())
		}
	}
	slices.SortStableFunc(list, func(a, b session.Note) int { return cmp.Compare(a.Session, b.Session) })
	return list
}

// left is notes.
func (f *findings) left() []session.Note {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.notes()
}

// holders are the sessions themselves that have not ended.
func (f *findings) holders() []*session.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.held, func(r *session.Session, _ []session.Note) bool { return r.Ended() })
	return slices.Collect(maps.Keys(f.held))
}

// because says why a session cannot be moved.
func (f *findings) because(r *session.Session) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	why := lists.Map(f.held[r], func(n session.Note) string { return n.Detail })
	return strings.Join(why, "; ")
}

func (f *findings) report(sessions int, start time.Time) StageReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return StageReport{Sessions: sessions, Captured: f.captured, Staged: f.staged, Unstaged: f.unstaged, Amber: f.amber,
		Unmovable: f.notes(), Disconnected: f.disconnected, Took: time.Since(start)}
}

// refuse notes that a session cannot be moved; one that has ended need not be.
func (f *findings) refuse(r *session.Session, code string, err error) {
	if errors.As(err, new(*side.CredentialsError)) {
		code = "credentials"
	}
	if !r.Ended() {
		f.add(&f.unmovable, r.Note(code, err.Error()))
	}
}

// judge notes the verdict on what was captured and reports whether it can move.
func (f *findings) judge(r *session.Session) bool {
	verdict, reasons := r.Owner.State().Judge()
	var held []session.Note
	for _, why := range reasons {
		n := r.Note(why.Code, why.Detail)
		switch {
		case why.Verdict == state.Amber:
			f.add(&f.amber, n)
		case r.Ended():
		case f.policy.lenient(verdict):
			held = append(held, n)
		default:
			f.add(&f.unmovable, n)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.held, r)
	if len(held) > 0 {
		lists.Put(&f.held, r, held)
	}
	return verdict.Movable()
}

// stage gives a captured session its warm server. The caller has its turn.
func (f *findings) stage(ctx context.Context, r *session.Session, to *side.Endpoint) {
	if f.judge(r) {
		f.warm(ctx, r, to, r.Owner.Refresh(ctx, to))
	}
}

// warm counts a session as staged; if it has no warm server, that is made first.
func (f *findings) warm(ctx context.Context, r *session.Session, to *side.Endpoint, has bool) {
	if !has {
		if err := r.Owner.MakeWarm(ctx, to); err != nil {
			f.refuse(r, "stage", err)
			return
		}
	}
	f.count(&f.staged)
}

// judgeStreams notes the replication connections, none of which can be moved.
func (f *findings) judgeStreams(list []*session.Stream) {
	for _, s := range list {
		switch {
		case s.Ended():
		case f.policy.lenient(session.StreamReason.Verdict):
			f.mu.Lock()
			f.streams = append(f.streams, s)
			f.mu.Unlock()
		default:
			f.add(&f.unmovable, s.Note())
		}
	}
}

// maxNamed bounds how many sessions an error names.
const maxNamed = 5

func names(notes []session.Note) string {
	list := lists.Map(notes[:min(len(notes), maxNamed)], session.Note.String)
	if more := len(notes) - maxNamed; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, "; ")
}

// DrainTimeoutError says which sessions were in the way when the time of a pause
// was over. The gate is open again.
type DrainTimeoutError struct {
	After    time.Duration
	Sessions []session.Note
	Logins   int    // logins that were being made
	Prepared string // a prepared transaction that is still open, with what to do about it; "" for none
}

func (e *DrainTimeoutError) Error() string {
	var parts []string
	if len(e.Sessions) > 0 {
		parts = append(parts, names(e.Sessions))
	}
	if e.Logins > 0 {
		parts = append(parts, fmt.Sprintf("%d logins not finished", e.Logins))
	}
	if e.Prepared != "" {
		parts = append(parts, e.Prepared)
	}
	return fmt.Sprintf("sessions did not come to rest within %s: %s; end their transactions or give a longer --drain-timeout", e.After, strings.Join(parts, "; "))
}

// UnmovableError says which sessions cannot be moved, and why.
type UnmovableError struct {
	Sessions []session.Note
}

func (e *UnmovableError) Error() string {
	return fmt.Sprintf("%d sessions cannot be moved: %s", len(e.Sessions), names(e.Sessions))
}

// HeldError says which sessions cannot be moved yet, and why: they hold state that they may
// release.
type HeldError struct {
	Sessions []session.Note
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%d sessions cannot be moved yet: %s", len(e.Sessions), names(e.Sessions))
}

// EpochError says that a call belongs to an attempt that is over, or comes out of turn.
type EpochError struct {
	Asked, Now int64
	What       string
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("%s of epoch %d is refused: the proxy is at epoch %d", e.What, e.Asked, e.Now)
}

// ConnLimitError says that the other side does not take as many connections as the sessions
// need that are to be moved.
type ConnLimitError struct {
	Endpoint string
	Lacks    []Lack
}

// Lack is a limit that would be exceeded.
type Lack struct {
	ask.ConnLimit
	Need int64 // connections more than there are
}

func (e *ConnLimitError) Error() string {
	parts := lists.Map(e.Lacks, Lack.String)
	return fmt.Sprintf("the %s has no room for the sessions: %s", e.Endpoint, strings.Join(parts, "; "))
}

// String says what is lacking, with what to do.
func (l Lack) String() string {
	most := l.Used + l.Need
	switch l.Kind {
	case ask.LimitOfRole:
		return fmt.Sprintf("role %s may have %d connections there and has %d, and %d more are needed: ALTER ROLE %s CONNECTION LIMIT %d there",
			l.Name, l.Limit, l.Used, l.Need, pg.QuoteIdent(l.Name), most)
	case ask.LimitOfDatabase:
		return fmt.Sprintf("database %s may have %d connections there and has %d, and %d more are needed: ALTER DATABASE %s CONNECTION LIMIT %d there",
			l.Name, l.Limit, l.Used, l.Need, pg.QuoteIdent(l.Name), most)
	}
	return fmt.Sprintf("it has %d connections for roles that are no superusers, %d of them in use, and %d more are needed: raise max_connections by %d there (on Neon: a larger compute)",
		l.Limit, l.Used, l.Need, most-l.Limit)
}

// Bounds of counting: a connection that was closed a moment ago may count still.
const (
	connLimitTries = 5
	connLimitPause = 50 * time.Millisecond
)

// checkConnLimits counts the connections that the sessions need on the other side, before anything
// is made there.
func (p *Mover) checkConnLimits(ctx context.Context, list []*session.Session, to *side.Endpoint) error {
	var err error
	tries := 0
	for range retry.Poll(ctx, connLimitPause) {
		tries++
		err = p.checkConnLimitsOnce(ctx, list, to)
		if !errors.As(err, new(*ConnLimitError)) || tries == connLimitTries {
			return err
		}
	}
	return err
}

func (p *Mover) checkConnLimitsOnce(ctx context.Context, list []*session.Session, to *side.Endpoint) error {
	var mu sync.Mutex
	need := map[string]map[string]int64{} // by the client's name of the database, and the role there
	p.each(ctx, list, 0, func(_ context.Context, r *session.Session) {
		as, err := to.Account(r.User, r.Proof)
		if err != nil || r.Owner.HasWarm() || r.View.KnownUnmovable() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if need[r.Database] == nil {
			need[r.Database] = map[string]int64{}
		}
		need[r.Database][as.Name]++
	})
	lacks := &ConnLimitError{Endpoint: to.Name}
	for _, database := range slices.Sorted(maps.Keys(need)) {
		roles := need[database]
		var limits []ask.ConnLimit
		err := p.sessions.Sides.AskAmong(ctx, to, database, p.sessions.Sides.Callers(database, session.CallersOf(list)), func(ctx context.Context, l *state.Link) (err error) {
			limits, err = ask.ConnLimits(ctx, l, slices.Sorted(maps.Keys(roles)))
			return err
		})
		if err != nil {
			return fmt.Errorf("count the connections that the sessions need at the %s: %w", to.Name, err)
		}
		var all int64
		for _, n := range roles {
			all += n
		}
		for _, limit := range limits {
			l := Lack{ConnLimit: limit, Need: all}
			if limit.Kind == ask.LimitOfRole {
				l.Need = roles[limit.Name]
			}
			if limit.Limit >= 0 && l.Used+l.Need > limit.Limit {
				lacks.Lacks = append(lacks.Lacks, l)
			}
		}
	}
	if len(lacks.Lacks) > 0 {
		return lacks
	}
	return nil
}
