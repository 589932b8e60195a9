package pg

import (
	"maps"
	"slices"
	"strings"
)

// textSettings are the settings that change how a value is written as text, how a text is read as a
// value, or what a statement's text means, for every type that comes with PostgreSQL. Every session
// of ours has them, on both sides, whatever the server, the database and the role have set: the
// walsender whose stream carries values as text, both ends of a COPY, what applies changes, and
// what compares rows. All may be set by any role. docs/operate/values.md says what each would do.
var textSettings = map[string]string{
	"DateStyle":                   "ISO, MDY",
	"IntervalStyle":               "postgres",
	"TimeZone":                    "UTC",
	"timezone_abbreviations":      "Default",
	"extra_float_digits":          "3",
	"bytea_output":                "hex",
	"lc_monetary":                 "C",
	"xmlbinary":                   "base64",
	"xmloption":                   "content",
	"array_nulls":                 "on",
	"quote_all_identifiers":       "off",
	"search_path":                 "pg_catalog",
	"standard_conforming_strings": "on",
	"backslash_quote":             "safe_encoding",
	"escape_string_warning":       "off",
	"transform_null_equals":       "off",
}

// sessionSettings are what else every session of ours has: no limits of time that someone else
// chose, no rows that are left out without a word, and an end that the server notices when we are
// gone.
var sessionSettings = map[string]string{
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"row_security":                        "off",
	"default_transaction_read_only":       "off",
	"default_transaction_isolation":       "read committed",
	"default_transaction_deferrable":      "off",
	"client_min_messages":                 "warning",
	"jit":                                 "off",
	"synchronous_commit":                  "on",
	"tcp_keepalives_idle":                 "20",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
}

// laterSettings are limits of time that not every server version knows, so that they
// cannot stand in the start-up packet.
var laterSettings = map[string]string{"idle_session_timeout": "0", "transaction_timeout": "0"}

// sessionParams are the settings that go into the start-up packet.
func sessionParams() map[string]string {
	params := maps.Clone(textSettings)
	maps.Copy(params, sessionSettings)
	return params
}

// TextSQL returns the statements that give a session the settings that keep the text
// of values the same everywhere, for one that may not be of Connect's making.
func TextSQL() string { return pinSQL(textSettings) }

// pinSQL sets the settings of the start-up packet once more, with those that came
// with later versions, in one round trip: a pooler in front of a server may have
// dropped the packet's options, and a trigger on login may have set others. The run's
// key is left out, since statements are logged.
func pinSQL(params map[string]string) string {
	var b strings.Builder
	if path, ok := params["search_path"]; ok {
		b.WriteString("SELECT pg_catalog.set_config('search_path', " + QuoteLiteral(path) + ", false); ")
	}
	b.WriteString("SELECT pg_catalog.count(pg_catalog.set_config(v.name, v.value, false)) FROM (VALUES ")
	all := maps.Clone(params)
	maps.Copy(all, laterSettings)
	delete(all, KeySetting)
	delete(all, "search_path")
	for i, name := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(" + QuoteLiteral(name) + ", " + QuoteLiteral(all[name]) + ")")
	}
	b.WriteString(") AS v(name, value) WHERE pg_catalog.current_setting(v.name, true) IS NOT NULL") // those that the server knows
	return b.String()
}
