package state

import (
	"maps"
	"slices"
	"strings"

	"crossfade/internal/base/lists"
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
	return !slices.Contains([]string{"", "false", "off", "no", "0", "f", "n"}, s.replication())
}

// ReplicationDatabase reports whether the walsender is to be connected to a database,
// as logical decoding needs it.
func (s Startup) ReplicationDatabase() bool { return s.replication() == "database" }

func (s Startup) replication() string {
	p, _ := lists.Find(s.Params, func(p wire.Param) bool { return p.Name == "replication" })
	return sqltext.Lower(p.Value)
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
	var o optionList
	for _, p := range slices.Concat(pins, s.settings) {
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
	for _, p := range o {
		switch key := sqltext.Lower(p.Name); {
		case key == "application_name":
			params = append(params, wire.Param{Name: key, Value: p.Value})
		case key == "session_authorization" || retired[key] || ignorable(key, state) || state == nil && forOperators(key):
		case key == "role" && role != nil:
			words = append(words, "-c", escapeWord("role="+role(p.Value)))
		default:
			words = append(words, "-c", escapeWord(p.Name+"="+p.Value))
		}
	}
	if len(words) > 0 {
		params = append(params, wire.Param{Name: "options", Value: strings.Join(words, " ")})
	}
	return params
}

// carriesReset reports whether the value that RESET goes back to must be given
// to the other side's start-up.
func carriesReset(name string, v Setting) bool {
	return v.Source == "client" || slices.Contains(Pinned, name) || v.SetBySession() && v.Context == "user"
}

// ignorable are settings for the operator's eyes which only a superuser may
// set: the target refuses them at start-up, and no result depends on them.
func ignorable(name string, state *State) bool {
	return state != nil && state.Settings[name].Context != "user" && forOperators(name)
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

// optionList keeps the last value of each name, names compared without case. DateStyle
// is the exception: a value may say the order of day and month alone, or the style, and
// leaves the other as it was.
type optionList []wire.Param

func (o *optionList) set(name, value string) {
	p := wire.Param{Name: name, Value: value}
	at := slices.IndexFunc(*o, func(p wire.Param) bool { return strings.EqualFold(p.Name, name) })
	if at < 0 || sqltext.Lower(name) == "datestyle" {
		*o = append(*o, p)
	} else {
		(*o)[at] = p
	}
}

// parseOptions returns the settings that the start-up parameter "options" makes, as a backend reads
// them (PostgreSQL source, postinit.c and postgres.c; the documentation of "postgres" has the
// letters): words are options of getopt, whose letters can be combined and whose arguments can be
// in the same word or in the next. Options that only the start of the server itself can have do
// nothing in a client's options, or make the server refuse the login: neither is carried over.
//
// Words for a proxy in front of the server (endpoint=..., neon_...) are left out: they concern
// another server than the one that is dialled.
func parseOptions(s string) (settings []wire.Param) {
	words := splitWords(s)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			break // what follows is no option
		}
		if len(word) < 2 || word[0] != '-' {
			continue
		}
		for at := 1; at < len(word); at++ {
			letter := word[at]
			if !strings.ContainsRune(withArgument, rune(letter)) {
				settings = append(settings, flagSettings(letter)...)
				continue
			}
			argument := word[at+1:]
			if argument == "" && len(words) > 0 {
				argument, words = words[0], words[1:]
			}
			settings = append(settings, argumentSettings(letter, argument)...)
			break
		}
	}
	return settings
}

// withArgument are the letters that take an argument. "-" is one, so that --name=value
// is the option "-" with the argument name=value.
const withArgument = "BCcDdfhkNprStvW-"

// flagSettings are what a letter without an argument sets.
func flagSettings(letter byte) []wire.Param {
	switch letter {
	case 'e':
		return []wire.Param{{Name: "datestyle", Value: "euro"}}
	case 'O':
		return []wire.Param{{Name: "allow_system_table_mods", Value: "true"}}
	case 'P':
		return []wire.Param{{Name: "ignore_system_indexes", Value: "true"}}
	}
	return nil // -s, and -d and -t, are for the log alone
}

// methods are the letters of -f, which forbids the planner something. Of several the
// server reads the first.
var methods = map[rune]string{
	's': "enable_seqscan", 'i': "enable_indexscan", 'o': "enable_indexonlyscan", 'b': "enable_bitmapscan",
	't': "enable_tidscan", 'n': "enable_nestloop", 'm': "enable_mergejoin", 'h': "enable_hashjoin",
}

// argumentSettings are what a letter with an argument sets.
func argumentSettings(letter byte, argument string) (settings []wire.Param) {
	switch letter {
	case 'c', '-':
		if name, value, ok := strings.Cut(argument, "="); ok {
			return []wire.Param{{Name: strings.ReplaceAll(name, "-", "_"), Value: value}}
		}
	case 'S':
		return []wire.Param{{Name: "work_mem", Value: argument}}
	case 'W':
		return []wire.Param{{Name: "post_auth_delay", Value: argument}}
	case 'f':
		for _, m := range argument[:min(1, len(argument))] {
			if name, ok := methods[m]; ok {
				settings = append(settings, wire.Param{Name: name, Value: "false"})
			}
		}
	}
	return settings
}

// splitWords splits at white space; a backslash takes the next byte as it is.
func splitWords(s string) []string {
	var words []string
	var b strings.Builder
	in, escaped := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && !escaped:
			in, escaped = true, true
		case !escaped && (c == ' ' || c >= '\t' && c <= '\r'):
			if in {
				words = append(words, b.String())
				b.Reset()
				in = false
			}
		default:
			b.WriteByte(c)
			in, escaped = true, false
		}
	}
	if in {
		words = append(words, b.String())
	}
	return words
}

func escapeWord(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' || c == ' ' || c >= '\t' && c <= '\r' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Pinned are the settings that change what statements return or whether they succeed. The source's
// value of each, whatever its origin, is put into the start-up options of the target's servers, and
// compared there. Settings that only change how fast a result comes are not among them. Nor are
// lc_monetary, lc_numeric and lc_time: their values are names of the operating system, which
// another system refuses.
var Pinned = []string{
	"array_nulls",
	"backslash_quote",
	"bytea_output",
	"check_function_bodies",
	"client_min_messages",
	"DateStyle",
	"default_text_search_config",
	"default_transaction_deferrable",
	"default_transaction_isolation",
	"default_transaction_read_only",
	"extra_float_digits",
	"idle_in_transaction_session_timeout",
	"idle_session_timeout",
	"IntervalStyle",
	"lock_timeout",
	"quote_all_identifiers",
	"row_security",
	"search_path",
	"standard_conforming_strings",
	"statement_timeout",
	"TimeZone",
	"timezone_abbreviations",
	"transaction_timeout",
	"transform_null_equals",
	"xmlbinary",
	"xmloption",
}

// disturbing are the settings that could end a replay, or a server that waits
// for its session. While a server is only staged they are off (Calm).
var disturbing = map[string]string{
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"transaction_timeout":                 "0",
	"idle_session_timeout":                "0",
	"idle_in_transaction_session_timeout": "0",
	"default_transaction_read_only":       "off",
}

// late are the settings that are given their value last: those that disturb, and
// the encoding of the text that a replay sends.
func late(name string) bool {
	_, ok := disturbing[name]
	return ok || name == "client_encoding"
}

// Calm returns the state with everything that could disturb a waiting server
// switched off. What it changed comes back as a difference to the state itself.
func (s *State) Calm() *State {
	calm := *s
	calm.Settings = make(map[string]Setting, len(s.Settings))
	for name, v := range s.Settings {
		if off, ok := disturbing[name]; ok && v.Value != off {
			v.Value, v.Source = off, "session"
		}
		calm.Settings[name] = v
	}
	return &calm
}
