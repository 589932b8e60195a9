package state

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
