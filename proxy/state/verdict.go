package state

import (
	"fmt"
	"slices"
	"strings"
)

// Verdict says whether a session can move.
type Verdict int

// Verdicts, the best first.
const (
	Green Verdict = iota // moves whole
	Amber                // moves, with a loss that is named
	Hold                 // not now; what holds it may go away
	Red                  // never
)

func (v Verdict) String() string {
	switch v {
	case Green:
		return "green"
	case Amber:
		return "amber"
	case Hold:
		return "hold"
	default:
		return "red"
	}
}

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
	add := func(v Verdict, code, format string, args ...any) {
		reasons = append(reasons, Reason{v, code, fmt.Sprintf(format, args...)})
	}
	if s.SessionUser != s.Login {
		add(Red, "session_authorization", "SET SESSION AUTHORIZATION to %q, which needs a superuser", s.SessionUser)
	}
	switch {
	case s.Opaque != "" && s.Declared:
		add(Amber, "declared_settings", "%s: it moves with the settings that --track-settings names", s.Opaque)
	case s.Opaque != "":
		add(Red, "unknown_settings", "%s: which settings it made is not visible anywhere; name them with --track-settings", s.Opaque)
	}
	if len(s.TempObjects) > 0 {
		add(Hold, "temp_objects", "temporary objects: %s", strings.Join(s.TempObjects, ", "))
	}
	if len(s.HeldCursors) > 0 {
		add(Hold, "held_cursors", "cursors WITH HOLD: %s", strings.Join(s.HeldCursors, ", "))
	}
	if s.Dblink > 0 {
		add(Hold, "dblink_connections", "%d named connections of dblink, which cannot be opened again without their passwords", s.Dblink)
	}
	if s.FDW > 0 {
		add(Amber, "fdw_connections", "postgres_fdw is connected to %d servers: it reconnects", s.FDW)
	}
	if s.Inserted {
		add(Amber, "sequence_values", "its last command was an INSERT: lastval and currval are not carried over")
	}
	if s.Backends {
		add(Amber, "backend_numbers", "it has named backends by their numbers (pids): those of sessions of the proxy are translated in what it sends, in rows and within functions they are not")
	}
	if s.UnknownPS {
		add(Hold, "unnamed_statement", "the unnamed statement is too large to be remembered")
	}
	for _, st := range s.Statements {
		if !st.FromSQL {
			continue
		}
		if _, err := RebuildPrepare(st); err != nil {
			add(Hold, "prepared_statement", "prepared statement %q: %v", st.Name, err)
		}
	}
	for name, st := range s.Late {
		_, err := st.body()
		switch {
		case st.FromSQL && err != nil:
			add(Hold, "prepared_statement", "prepared statement %q: %v", name, err)
		case s.foreign(st):
			add(Hold, "prepared_statement", "prepared statement %q, %s, and its text is in another encoding", name, lateReason)
		default:
			add(Amber, "late_statement", "prepared statement %q, %s", name, lateReason)
		}
	}
	if len(s.Locks) > 0 {
		add(Amber, "advisory_locks", "%d advisory locks, each of which is taken once on the other side however often it is held", len(s.Locks))
	}
	worst := Green
	for _, r := range reasons {
		worst = max(worst, r.Verdict)
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		if a.Verdict != b.Verdict {
			return int(b.Verdict - a.Verdict)
		}
		return strings.Compare(a.Code+a.Detail, b.Code+b.Detail)
	})
	return worst, reasons
}
