package stream

import (
	"fmt"
	"strconv"
	"strings"

	"crossfade/internal/base/pg"
)

// majorVersion reads the major version out of the parameter server_version,
// such as "15.18 (Debian …)", "17beta1" or "9.6.24".
func majorVersion(s string) (int, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0, fmt.Errorf("read server version %q: no number at its start", s)
	}
	return n, nil
}

// startCommand writes START_REPLICATION with the options of pgoutput that a
// source of this major version knows: an unknown one is an error there.
func startCommand(slot, publication string, start pg.LSN, major int) string {
	opts := []string{
		"proto_version '1'",
		// The server splits the list as identifiers.
		"publication_names " + literal(pg.QuoteIdent(publication)),
	}
	if major >= 14 {
		opts = append(opts, "messages 'true'")
	}
	return fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (%s)", pg.QuoteIdent(slot), start, strings.Join(opts, ", "))
}

// literal quotes a string for the replication grammar, which knows no escape
// strings and gives a backslash no meaning.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
