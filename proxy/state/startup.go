package state

import (
	"maps"
	"slices"
	"strings"

	"crossfade/internal/base/sqltext"
	"crossfade/proxy/wire"
)

// Startup is what a client asked for in its start-up packet, apart from who it is. Immutable.
type Startup struct {
	Params   []wire.Param // as the client sent them, without user, database and protocol extensions
	settings []wire.Param // of the options, then of the packet: later ones win
}

// NewStartup sorts the parameters of a start-up packet.
func NewStartup(params []wire.Param) Startup {
	var s Startup
	var fromPacket []wire.Param
	for _, p := range params {
		switch {
		case p.Name == "user" || p.Name == "database" || strings.HasPrefix(p.Name, "_pq_."):
			continue
		case p.Name == "options":
			s.settings = parseOptions(p.Value) // of several the server takes the last
		case p.Name != "replication":
			fromPacket = append(fromPacket, p)
		}
		s.Params = append(s.Params, p)
	}
	s.settings = append(s.settings, fromPacket...)
	return s
}

// Replication reports whether the client asked for a walsender.
func (s Startup) Replication() bool {
	for _, p := range s.Params {
		if p.Name == "replication" {
			switch sqltext.Lower(p.Value) {
			case "", "false", "off", "no", "0", "f", "n":
				return false
			}
			return true
		}
	}
	return false
}

// ReplicationDatabase reports whether the walsender is to be connected to a database,
// as logical decoding needs it.
func (s Startup) ReplicationDatabase() bool {
	for _, p := range s.Params {
		if p.Name == "replication" {
			return sqltext.Lower(p.Value) == "database"
		}
	}
	return false
}

// Names adds the custom settings that the client set at start-up.
func (s Startup) Names(n *Names) {
	for _, p := range s.settings {
		n.Add(p.Name)
	}
}

// Moved returns the start-up parameters for a server on the other side: the application's name, and
// everything else in options, since a proxy in front of the server may forward nothing more (Neon's
// does not). Values that the client gave at start-up stay what RESET and DISCARD ALL go back to.
//
// pins come first, then what the client asked for, then the values that RESET
// has in state, which may be nil. role translates the name of a role.
func (s Startup) Moved(pins []wire.Param, state *State, role func(string) string) []wire.Param {
	o := optionList{}
	for _, p := range pins {
		o.set(p.Name, p.Value)
	}
	for _, p := range s.settings {
		o.set(p.Name, p.Value)
	}
	if state != nil {
		for _, name := range slices.Sorted(maps.Keys(state.Settings)) {
			if v := state.Settings[name]; carriesReset(name, v) {
				o.set(name, v.Reset)
			}
		}
	}
	var params []wire.Param
	var words []string
	for _, p := range o.list {
		switch key := sqltext.Lower(p.Name); {
		case key == "application_name":
			params = append(params, wire.Param{Name: key, Value: p.Value})
		case key == "session_authorization" || retired[key] || ignorable(key, state) || state == nil && forOperators(key):
		case key == "role" && role != nil:
			words = append(words, "-c", "role="+role(p.Value))
		default:
			words = append(words, "-c", p.Name+"="+p.Value)
		}
	}
	for i, w := range words {
		words[i] = escapeWord(w)
	}
	if len(words) > 0 {
		params = append(params, wire.Param{Name: "options", Value: strings.Join(words, " ")})
	}
	return params
}

// carriesReset reports whether the value that RESET goes back to must be given
// to the other side's start-up.
func carriesReset(name string, v Setting) bool {
	if v.Source == "client" || slices.Contains(Pinned, name) {
		return true
	}
	return v.SetBySession() && v.Context == "user"
}

// ignorable are settings for the operator's eyes which only a superuser may
// set: the target refuses them at start-up, and no result depends on them.
func ignorable(name string, state *State) bool {
	if state == nil || state.Settings[name].Context == "user" {
		return false
	}
	return forOperators(name)
}

// forOperators are settings that only a superuser may set and that no result depends on,
// by the beginnings of their names. One of these shows in the errors that a client gets.
func forOperators(name string) bool {
	return name != "log_parameter_max_length_on_error" && slices.ContainsFunc([]string{"log_", "track_", "auto_explain.", "pg_stat_statements."}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}

// retired are settings that a later version of PostgreSQL no longer knows and that
// no result depends on: they are not given at start-up, where they would be refused,
// and given up where the other side does not know them.
var retired = map[string]bool{
	"escape_string_warning":             true, // warnings only; gone in 19
	"force_parallel_mode":               true, // a debugging aid; gone in 16
	"operator_precedence_warning":       true, // gone in 14
	"replacement_sort_tuples":           true, // gone in 11
	"vacuum_cleanup_index_scale_factor": true, // gone in 14
}

// custom reports whether a setting has a name that a session may make up: it exists under that name
// until a library is loaded that defines it.
func custom(name string) bool { return strings.Contains(name, ".") }
