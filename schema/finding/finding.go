package finding

import (
	"fmt"
	"strings"
)

// Finding says that an entry could not be restored as it stands in the archive.
type Finding struct {
	ID       int    // dump id, 0 where there is no entry
	Kind     string // pg_dump's word: TABLE, COMMENT …
	Schema   string
	Name     string
	Message  string // the server's message
	SQLSTATE string // "" where no server spoke
	Harmless bool   // the run continues without it
	Remedy   string // what to do, "" where nothing can be
}

// String tells what, where, why and what to do in one line.
func (f Finding) String() string {
	name := f.Name
	if f.Schema != "" {
		name = f.Schema + "." + f.Name
	}
	text := strings.ReplaceAll(fmt.Sprintf("%s %s: %s", f.Kind, name, f.Message), "\n", " ")
	if f.SQLSTATE != "" {
		text += " (SQLSTATE " + f.SQLSTATE + ")"
	}
	if f.Remedy != "" {
		text += "; " + f.Remedy
	}
	return text
}
