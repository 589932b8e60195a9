package session

import (
	"context"
	"errors"
	"sync"

	"crossfade/proxy/ending"
)

// maxStruckNotes bounds how many of the clients that were ended in an attempt are named.
const maxStruckNotes = 1000

// struck is the clients that were ended during an attempt, no matter what ended them: the move, a
// server that went away, the hold limit. Clients that closed their connections are not among them,
// nor those that the operator's policy disconnects. Safe for concurrent use.
type struck struct {
	mu    sync.Mutex
	on    bool
	known map[uint64]bool // sessions of this attempt
	notes []Note          // of this attempt
	total int64           // since the start
	first int64           // total at the beginning of this attempt
}

// Begin is the beginning of an attempt, or its going on.
func (s *struck) Begin(first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on = true; first || s.known == nil {
		s.known, s.notes, s.first = map[uint64]bool{}, nil, s.total
	}
}

// End is the end of an attempt. Who is ended from here on is not of it.
func (s *struck) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = false
}

// Add takes a client, a session once. id is 0 for one that has no session yet.
// late says that it is of the attempt though that is over.
func (s *struck) Add(id uint64, n Note, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.on && !late || id > 0 && s.known[id] {
		return
	}
	if id > 0 {
		s.known[id] = true
	}
	s.total++
	if len(s.notes) < maxStruckNotes {
		s.notes = append(s.notes, n)
	}
}

// Spare has a session not be counted: it is ended on purpose, and counted elsewhere.
func (s *struck) Spare(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[uint64]bool{}
	}
	s.known[id] = true
}

func (s *struck) Sum() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// OfAttempt returns how many there are of this attempt, with the notes on them.
func (s *struck) OfAttempt() (int, []Note) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.total - s.first), append([]Note(nil), s.notes...)
}

// Strike counts the session if it has ended and not by its client.
func (r *Session) Strike() {
	cause := context.Cause(r.ctx)
	if cause == nil || errors.Is(cause, ending.ErrClientGone) {
		return
	}
	r.mu.Lock()
	lacks := r.mu.serving.lacks
	r.mu.Unlock()
	r.p.Struck.Add(r.Id, r.Note("ended", ending.InWords(cause)), lacks)
}
