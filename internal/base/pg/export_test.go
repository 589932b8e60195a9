package pg

import "maps"

// TextSettings returns a copy of the settings that keep the text of values the same everywhere.
func TextSettings() map[string]string { return maps.Clone(textSettings) }

// PinSQL is what Connect sends after a login without options.
func PinSQL() string { return pinSQL(sessionParams()) }

// ParseDSNIn is ParseDSN in another environment.
func ParseDSNIn(s string, variables map[string]string, home string) (DSN, error) {
	return parseDSN(s, environment{variable: func(name string) string { return variables[name] }, home: home})
}

// NameMatches compares a certificate's name with a host's.
var NameMatches = nameMatches
