package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"crossfade/internal/pg"
	"crossfade/proxy/wire"
)

// maxStruckNotes bounds how many of the clients that were ended in an attempt are named.
const maxStruckNotes = 1000

// struck are the clients that were ended while an attempt was under way, whoever ended
// them: the move, a server that went away, the hold limit. Clients that left themselves are
// not among them, nor those that an operator's policy disconnects. Safe for concurrent use.
type struck struct {
	mu    sync.Mutex
	on    bool
	known map[uint64]bool // sessions of this attempt
	notes []SessionNote   // of this attempt
	total int64           // since the start
	first int64           // total at the beginning of this attempt
}

// begin is the beginning of an attempt, or its going on.
func (s *struck) begin(first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on = true; first {
		s.known, s.notes, s.first = map[uint64]bool{}, nil, s.total
	}
}

// end is the end of an attempt. Who is ended from here on is not of it.
func (s *struck) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = false
}

// add takes a client, a session once. id is 0 for one that has no session yet.
// late says that it is of the attempt though that is over.
func (s *struck) add(id uint64, n SessionNote, late bool) {
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

// spare has a session not be counted: it is ended on purpose, and counted elsewhere.
func (s *struck) spare(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[uint64]bool{}
	}
	s.known[id] = true
}

func (s *struck) sum() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// ofAttempt returns how many there are of this attempt, with the notes on them.
func (s *struck) ofAttempt() (int, []SessionNote) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.total - s.first), append([]SessionNote(nil), s.notes...)
}

// strike counts the session if it has ended and not by its client.
func (r *relay) strike() {
	cause := context.Cause(r.ctx)
	if cause == nil || errors.Is(cause, errClientGone) {
		return
	}
	r.mu.Lock()
	lacks := r.mu.lacks
	r.mu.Unlock()
	r.p.struck.add(r.id, r.note("ended", ending(cause)), lacks)
}

// ending says in words why a session was ended.
func ending(cause error) string {
	var told *toldError
	if errors.As(cause, &told) {
		return fmt.Sprintf("its server ended it (SQLSTATE %s)", told.code)
	}
	var said *wire.ServerError
	if errors.As(cause, &said) && said.Code == pg.CodeCannotConnectNow {
		return "it was held for longer than the hold limit"
	}
	if words := lastWords(cause); words != nil {
		return fmt.Sprintf("it was ended: %s (SQLSTATE %s)", words.Message, words.Code)
	}
	return "it was ended: " + cause.Error()
}
