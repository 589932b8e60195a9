package proxy

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"crossfade/proxy/session"
)

// findings collects what the owners of many sessions found. Safe for concurrent use.
type findings struct {
	policy Unmovable

	mu           sync.Mutex
	captured     int
	staged       int
	disconnected int
	unstaged     []SessionNote
	unmovable    []SessionNote
	amber        []SessionNote
	// held are sessions that cannot be moved and that the policy lets be.
	held    map[*relay][]SessionNote
	streams []*stream // replication connections that the policy lets be
}

func (f *findings) add(list *[]SessionNote, n SessionNote) {
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
func (f *findings) notes() []SessionNote {
	var list []SessionNote
	for r, notes := range f.held {
		if f.policy == UnmovableDisconnect || r.ctx.Err() == nil {
			list = append(list, notes...)
		}
	}
	for _, s := range f.streams {
		if f.policy == UnmovableDisconnect || s.ctx.Err() == nil {
			list = append(list, s.note())
		}
	}
	slices.SortStableFunc(list, func(a, b SessionNote) int { return cmp.Compare(a.Session, b.Session) })
	return list
}

// left is notes.
func (f *findings) left() []SessionNote {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.notes()
}

// holders are the sessions themselves that have not ended.
func (f *findings) holders() []*relay {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.held, func(r *relay, _ []SessionNote) bool { return r.ctx.Err() != nil })
	return slices.Collect(maps.Keys(f.held))
}

// because says why a session cannot be moved.
func (f *findings) because(r *relay) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var why []string
	for _, n := range f.held[r] {
		why = append(why, n.Detail)
	}
	return strings.Join(why, "; ")
}

func (f *findings) report(sessions int, start time.Time) StageReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	return StageReport{Sessions: sessions, Captured: f.captured, Staged: f.staged, Unstaged: f.unstaged, Amber: f.amber,
		Unmovable: f.notes(), Disconnected: f.disconnected, Took: time.Since(start)}
}

// refuse notes that a session cannot be moved; one that has ended need not be.
func (f *findings) refuse(r *relay, code string, err error) {
	var unknown *CredentialsError
	if errors.As(err, &unknown) {
		code = "credentials"
	}
	if r.ctx.Err() == nil {
		f.add(&f.unmovable, r.note(code, err.Error()))
	}
}

// judge notes the verdict on what was captured and reports whether it can move.
func (f *findings) judge(r *relay) bool {
	verdict, reasons := r.captured.Judge()
	var held []SessionNote
	for _, why := range reasons {
		n := r.note(why.Code, why.Detail)
		switch {
		case why.Verdict == session.Amber:
			f.add(&f.amber, n)
		case r.ctx.Err() != nil:
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
			f.held = map[*relay][]SessionNote{}
		}
		f.held[r] = held
	}
	return verdict.Movable()
}

// stage gives a captured session its warm server. The caller has its turn.
func (f *findings) stage(ctx context.Context, r *relay, to *Endpoint) {
	if !f.judge(r) {
		return
	}
	if w := r.warm; w != nil {
		as, err := to.account(r.user, r.proof)
		if err == nil && w.endpoint == to && w.link.Broken() == nil && w.login == as.name &&
			w.stage(ctx, r.captured, roles(r.captured.Login, as.name, to), r.names) == nil {
			f.count(&f.staged)
			return
		}
		// What RESET goes back to is given at start-up only, so begin anew.
		w.close()
		r.warm = nil
	}
	f.warm(ctx, r, to)
}

// warm makes the warm server of a session.
func (f *findings) warm(ctx context.Context, r *relay, to *Endpoint) {
	w, err := r.warmUp(ctx, to)
	if err != nil {
		f.refuse(r, "stage", err)
		return
	}
	r.warm = w
	f.count(&f.staged)
}
