// Package finding holds what the schema plane reports about an object: a Finding says that it could
// not be made as it is in the archive, a Change that its definition on the source differs by now.
//
// The value of a setting is in neither, since it may be a secret.
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

// Change is a property of an object that the source has otherwise than when the
// schema was restored on the target, and the target not as the source.
type Change struct {
	Kind, Schema, Name string // as pg_dump calls the object
	Table              string // the table that it is, or is part of, as it is shown; "" for none, and where pg_dump does not say
	Property           string // "" for the object as a whole
	Source, Target     string // what either side has, "" for nothing
	SQL                string // what makes the target as the source, "" where that is not known
}

// String says what differs, for a person.
func (c Change) String() string {
	object := c.Object()
	what := c.Property
	if c.Kind == "ACL" && what != "" {
		what = "grants"
	}
	if what == "" {
		if c.Source != "" {
			return object + " was made on the source since the copy and is not on the target"
		}
		return object + " was dropped on the source since the copy and is on the target"
	}
	switch object += ": " + what; {
	case c.Target == "":
		return fmt.Sprintf("%s is new on the source since the copy: %s", object, shortened(c.Source))
	case c.Source == "":
		return fmt.Sprintf("%s is gone on the source since the copy, and on the target: %s", object, shortened(c.Target))
	}
	return fmt.Sprintf("%s is now on the source: %s; on the target: %s", object, shortened(c.Source), shortened(c.Target))
}

// Object names the object, for a person.
func (c Change) Object() string {
	kind, name := c.Kind, c.Name
	switch kind {
	case "COMMENT", "ACL", "SECURITY LABEL": // whose tag begins with the kind of the object that they belong to
		of := ""
		for word, rest, ok := strings.Cut(name, " "); ok && strings.ToUpper(word) == word && !strings.HasPrefix(word, `"`); word, rest, ok = strings.Cut(rest, " ") {
			of, name = of+" "+word, rest
		}
		kind = map[string]string{"COMMENT": "comment on", "ACL": "privileges on", "SECURITY LABEL": "security label on"}[kind] + of
	}
	if c.Schema != "" {
		name = c.Schema + "." + name
	}
	return kind + " " + name
}

// mostShown bounds how much of a definition stands in a message.
const mostShown = 200

func shortened(s string) string {
	s = strings.TrimSuffix(strings.Join(strings.Fields(s), " "), ";")
	if r := []rune(s); len(r) > mostShown {
		return string(r[:mostShown]) + "…"
	}
	return s
}
