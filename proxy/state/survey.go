package state

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/sqltext"
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
	if st.Name == "" {
		s.Unnamed = nil
	} else {
		delete(s.Statements, st.Name)
	}
	lists.Put(&s.Late, st.Name, st)
	return true
}

// Verdict says whether a session can move.
type Verdict int

// Verdicts, the best first.
const (
	Green Verdict = iota // moves whole
	Amber                // moves, with a loss that is named
	Hold                 // not now; what holds it may go away
	Red                  // never
)

func (v Verdict) String() string { return [...]string{"green", "amber", "hold", "red"}[v] }

// Movable reports whether a session with this verdict may be moved.
func (v Verdict) Movable() bool { return v <= Amber }

// Reason is one finding about a session.
type Reason struct {
	Verdict Verdict
	Code    string // stable, for machines: "temp_objects", "held_cursors" ...
	Detail  string // for people; holds names, never values
}

// Judge returns the worst verdict about a state, and every reason for one that is not green.
func (s *State) Judge() (Verdict, []Reason) {
	var reasons []Reason
	addIf := func(is bool, v Verdict, code, format string, args ...any) {
		if is {
			reasons = append(reasons, Reason{v, code, fmt.Sprintf(format, args...)})
		}
	}
	addIf(s.SessionUser != s.Login, Red, "session_authorization", "SET SESSION AUTHORIZATION to %q, which needs a superuser", s.SessionUser)
	addIf(s.Opaque != "" && s.Declared, Amber, "declared_settings", "%s: it moves with the settings that --track-settings names", s.Opaque)
	addIf(s.Opaque != "" && !s.Declared, Red, "unknown_settings", "%s: which settings it made is not visible anywhere; name them with --track-settings", s.Opaque)
	addIf(len(s.TempObjects) > 0, Hold, "temp_objects", "temporary objects: %s", strings.Join(s.TempObjects, ", "))
	addIf(len(s.HeldCursors) > 0, Hold, "held_cursors", "cursors WITH HOLD: %s", strings.Join(s.HeldCursors, ", "))
	addIf(s.Dblink > 0, Hold, "dblink_connections", "%d named connections of dblink, which cannot be opened again without their passwords", s.Dblink)
	addIf(s.FDW > 0, Amber, "fdw_connections", "postgres_fdw is connected to %d servers: it reconnects", s.FDW)
	addIf(s.Inserted, Amber, "sequence_values", "its last command was an INSERT: lastval and currval are not carried over")
	addIf(s.Backends, Amber, "backend_numbers", "it has named backends by their numbers (pids): the proxy translates those of its own sessions in what this session sends, but not in rows and within functions")
	addIf(s.UnknownPS, Hold, "unnamed_statement", "the unnamed statement is too large to be remembered")
	addIf(len(s.Locks) > 0, Amber, "advisory_locks", "%d advisory locks, each of which is taken once on the other side however often it is held", len(s.Locks))
	for _, st := range s.Statements {
		if !st.FromSQL {
			continue
		}
		_, err := RebuildPrepare(st)
		addIf(err != nil, Hold, "prepared_statement", "prepared statement %q: %v", st.Name, err)
	}
	for name, st := range s.Late {
		_, err := st.body()
		unbuilt, foreign := st.FromSQL && err != nil, s.foreign(st)
		addIf(unbuilt, Hold, "prepared_statement", "prepared statement %q: %v", name, err)
		addIf(!unbuilt && foreign, Hold, "prepared_statement", "prepared statement %q, %s, and its text is in another encoding", name, lateReason)
		addIf(!unbuilt && !foreign, Amber, "late_statement", "prepared statement %q, %s", name, lateReason)
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Verdict, a.Verdict), cmp.Compare(a.Code+a.Detail, b.Code+b.Detail))
	})
	if len(reasons) == 0 {
		return Green, nil
	}
	return reasons[0].Verdict, reasons
}

// LateStatement is a statement that a server lacks, and the Parse that makes it there.
type LateStatement struct {
	Statement
	Parse []byte // the frame, in the server's numbers of types
}

// Late returns the statements of a state that are to be parsed when they are first used, for this
// server. A type of a parameter that does not exist here is left to the server to find out.
func (l *Link) Late(ctx context.Context, s *State) (map[string]LateStatement, error) {
	if len(s.Late) == 0 {
		return nil, nil
	}
	oids, err := l.lookUp(ctx, slices.Collect(maps.Values(s.Late)))
	if err != nil {
		return nil, err
	}
	late := make(map[string]LateStatement, len(s.Late))
	for name, st := range s.Late {
		text := st.Text
		if st.FromSQL {
			if text, err = st.body(); err != nil {
				return nil, &StepError{Step: "prepared statement", Err: err}
			}
		}
		late[name] = LateStatement{Statement: st, Parse: wire.AppendParse(nil, name, text, numbers(st, oids))}
	}
	return late, nil
}

// Uses reports whether a text may use or drop a prepared statement of this name by SQL.
func Uses(text []byte, name string) bool {
	if !containsFold(text, "execute") && !containsFold(text, "deallocate") {
		return false
	}
	l := sqltext.Scanner{Src: string(text)}
	after := false // a word that a name follows
	for t := l.Next(); t.Kind != sqltext.End; t = l.Next() {
		if after && t.Name() && t.Text == name {
			return true
		}
		after = t.Is("execute") || t.Is("deallocate") || after && t.Is("prepare")
	}
	return false
}

// lateReason says why a statement is late, for people.
const lateReason = "which its own server cannot parse as things are now: it is parsed when it is first used"

// foreign reports that text of a state cannot be sent as it is in the session's own encoding.
func (s *State) foreign(st Statement) bool {
	return st.wide() && !strings.EqualFold(s.Settings["client_encoding"].Value, s.ServerEncoding)
}
