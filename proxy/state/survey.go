package state

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"crossfade/proxy/wire"
)

// maxAttempts bounds under how many contexts a statement is tried.
const maxAttempts = 12

// Survey finds out, for each prepared statement of a state that was just captured
// here, the settings that it was parsed under and what it takes and returns, and moves
// to Late what the server cannot parse under any that are known. contexts
// (Contexts.Candidates) says which may have been, the likeliest first.
//
// The server looks a statement's names up again when it is described under another search_path, and
// refuses one that would return something else than it was parsed to. So what it accepts is equal
// to what the client had made, whatever that was. The settings are made for the length of the unit:
// the session stays as it was.
func (l *Link) Survey(ctx context.Context, s *State, contexts func(Statement) []*Context) error {
	var open []*attempt
	for _, name := range slices.Sorted(maps.Keys(s.Statements)) {
		if s.Statements[name].Shape == nil && l.canName(name) {
			open = append(open, s.attempt(s.Statements[name], contexts))
		}
	}
	if s.Unnamed != nil && s.Unnamed.Shape == nil {
		open = append(open, s.attempt(*s.Unnamed, contexts))
	}
	for len(open) > 0 {
		for _, a := range open {
			l.try(s, a)
			if l.full() {
				if err := l.Flush(ctx); err != nil {
					return err
				}
			}
		}
		if err := l.Flush(ctx); err != nil {
			return err
		}
		open = slices.DeleteFunc(open, func(a *attempt) bool { return s.settle(a) })
	}
	return nil
}

// canName reports whether a name of a state means the same to the server as it is sent
// by this session: text of a session in another encoding than the database's does not.
func (l *Link) canName(name string) bool {
	return ASCII(name) || l.Params["client_encoding"] == l.Params["server_encoding"]
}

// attempt is a statement and the values under which it may have been parsed.
type attempt struct {
	statement Statement
	under     []map[string]string
	shape     *Shape
	refused   bool
}

func (s *State) attempt(st Statement, contexts func(Statement) []*Context) *attempt {
	a := &attempt{statement: st}
	add := func(values map[string]string) {
		if len(a.under) < maxAttempts && !slices.ContainsFunc(a.under, func(u map[string]string) bool { return maps.Equal(u, values) }) {
			a.under = append(a.under, values)
		}
	}
	for i, c := range contexts(st) {
		if add(s.under(c)); i == 0 {
			add(s.present())
		}
	}
	return a
}

// refuse takes what the server says against the statement under the values of the moment.
// What it says of itself, of locks or of time is nothing about the statement.
func (a *attempt) refuse(e *wire.ServerError) error {
	if len(e.Code) == 5 {
		switch e.Code[:2] {
		case "0A", "22", "23", "2F", "34", "38", "39", "3F", "42", "44", "26", "28", "0L", "P0":
			a.refused = true
			return nil
		}
	}
	return e
}

// try queues a Describe of the statement under the first values.
func (l *Link) try(s *State, a *attempt) {
	a.shape, a.refused = &Shape{}, false
	l.describeUnder(fmt.Sprintf("describe prepared statement %q", a.statement.Name), s.locals(a.under[0], nil), a)
}

// settle notes what came of a try, and reports whether there is none left.
func (s *State) settle(a *attempt) bool {
	st := a.statement
	if !a.refused {
		st.Under, st.Shape = a.under[0], a.shape
		if st.Name == "" {
			s.Unnamed = &st
		} else {
			s.Statements[st.Name] = st
		}
		return true
	}
	if a.under = a.under[1:]; len(a.under) > 0 {
		return false
	}
	if s.Late == nil {
		s.Late = map[string]Statement{}
	}
	if st.Name == "" {
		s.Unnamed = nil
	} else {
		delete(s.Statements, st.Name)
	}
	s.Late[st.Name] = st
	return true
}
