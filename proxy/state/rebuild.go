package state

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
)

var errNotIsolated = errors.New("its PREPARE cannot be told apart in the text that made it")

// RebuildPrepare makes one PREPARE of a statement that was prepared by SQL. The server keeps the
// whole query string that contained the PREPARE, which must never be run again: its other
// statements would be repeated. If it is known what it was parsed under, it keeps its position,
// with only blanks before it: the server counts the position of an error from the beginning of the
// text.
func RebuildPrepare(s Statement) (string, error) {
	found, err := s.find()
	if err != nil {
		return "", err
	}
	if s.Under != nil {
		return strings.Repeat(" ", utf8.RuneCountInString(s.Text[:found.start])) + s.Text[found.start:found.end], nil
	}
	body := found.body
	var types strings.Builder
	for i, t := range s.Types {
		if t.Name == "" {
			return "", fmt.Errorf("type %d of its parameters no longer exists", i+1)
		}
		if i > 0 {
			types.WriteString(", ")
		}
		types.WriteString(pg.Name{Schema: t.Schema, Name: t.Name}.String())
	}
	if types.Len() > 0 {
		return "PREPARE " + pg.QuoteIdent(s.Name) + " (" + types.String() + ") AS " + body, nil
	}
	return "PREPARE " + pg.QuoteIdent(s.Name) + " AS " + body, nil
}

// body is the statement that was prepared by SQL.
func (s Statement) body() (string, error) {
	found, err := s.find()
	return found.body, err
}

func (s Statement) find() (foundPrepare, error) {
	// Where strings end depends on standard_conforming_strings at that time.
	conforming, known := s.Under["standard_conforming_strings"]
	if known {
		return findPrepare(s.Text, s.Name, conforming == "off")
	}
	found, err := findPrepare(s.Text, s.Name, false)
	if err == nil && strings.Contains(s.Text, `\`) {
		if other, err := findPrepare(s.Text, s.Name, true); err != nil || other.body != found.body {
			return found, errNotIsolated
		}
	}
	return found, err
}

// foundPrepare is a PREPARE in a text.
type foundPrepare struct {
	start, end int    // its position
	body       string // what follows AS
}

// findPrepare finds the one PREPARE of this name.
func findPrepare(text, name string, escapes bool) (foundPrepare, error) {
	l := sqltext.Scanner{Src: text, Escapes: escapes}
	found, list := foundPrepare{}, 0
	for {
		t := l.Next()
		if t.Kind == sqltext.End {
			break
		}
		begin := t.Start
		ours := t.Is("prepare")
		if ours {
			t = l.Next()
			ours = t.Name() && t.Text == name
		}
		if ours {
			t = l.Next()
			if t.Punct('(') {
				t = skipParens(&l)
			}
			ours = t.Is("as")
		}
		start, end := t.End, t.End
		for t.Kind != sqltext.End && !t.Punct(';') {
			end = t.End
			t = l.Next()
		}
		if ours {
			list++
			found = foundPrepare{begin, end, strings.TrimSpace(text[start:end])}
			first, rest := sqltext.Scanner{Src: text, Escapes: escapes}, l
			if first.Next().Start == begin && rest.Next().Kind == sqltext.End {
				found.start, found.end = 0, len(text) // it is all that there is
			}
		}
	}
	if list != 1 || found.body == "" {
		return foundPrepare{}, errNotIsolated
	}
	return found, nil
}

// skipParens returns the token after the closing parenthesis.
func skipParens(l *sqltext.Scanner) sqltext.Token {
	for depth := 1; ; {
		t := l.Next()
		switch {
		case t.Kind == sqltext.End:
			return t
		case t.Punct('('):
			depth++
		case t.Punct(')'):
			depth--
			if depth == 0 {
				return l.Next()
			}
		}
	}
}
