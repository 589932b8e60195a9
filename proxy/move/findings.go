package move

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"crossfade/internal/base/lists"
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
	var unknown *side.CredentialsError
	if errors.As(err, &unknown) {
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
		if f.held == nil {
			f.held = map[*session.Session][]session.Note{}
		}
		f.held[r] = held
	}
	return verdict.Movable()
}

// stage gives a captured session its warm server. The caller has its turn.
func (f *findings) stage(ctx context.Context, r *session.Session, to *side.Endpoint) {
	if !f.judge(r) {
		return
	}
	if r.Owner.Refresh(ctx, to) {
		f.count(&f.staged)
		return
	}
	f.warm(ctx, r, to)
}

// warm makes the warm server of a session.
func (f *findings) warm(ctx context.Context, r *session.Session, to *side.Endpoint) {
	if err := r.Owner.MakeWarm(ctx, to); err != nil {
		f.refuse(r, "stage", err)
		return
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
