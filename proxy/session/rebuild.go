package session

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"crossfade/internal/pg"
)

var errNotIsolated = errors.New("its PREPARE cannot be told apart in the text that made it")

// RebuildPrepare makes one PREPARE of a statement that was prepared by SQL. The
// server keeps the whole query string that the PREPARE stood in, which must
// never be run again: other statements of it would be repeated. Where it is known what
// it was parsed under, it is left where it stood, and blanks are all that is ahead of
// it: the server counts from the beginning of the text where an error is.
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
	start, end int    // where it stands
	body       string // what stands behind AS
}

// findPrepare finds the one PREPARE of this name.
func findPrepare(text, name string, escapes bool) (foundPrepare, error) {
	l := lexer{src: text, escapes: escapes}
	found, list := foundPrepare{}, 0
	for {
		t := l.next()
		if t.kind == tokenEnd {
			break
		}
		begin := t.start
		ours := t.word("prepare")
		if ours {
			t = l.next()
			ours = t.name() && t.text == name
		}
		if ours {
			t = l.next()
			if t.other("(") {
				t = skipParens(&l)
			}
			ours = t.word("as")
		}
		start, end := t.end, t.end
		for t.kind != tokenEnd && !t.other(";") {
			end = t.end
			t = l.next()
		}
		if ours {
			list++
			found = foundPrepare{begin, end, strings.TrimSpace(text[start:end])}
			first, rest := lexer{src: text, escapes: escapes}, l
			if first.next().start == begin && rest.next().kind == tokenEnd {
				found.start, found.end = 0, len(text) // it is all that there is
			}
		}
	}
	if list != 1 || found.body == "" {
		return foundPrepare{}, errNotIsolated
	}
	return found, nil
}

// skipParens returns the token behind the closing parenthesis.
func skipParens(l *lexer) token {
	for depth := 1; ; {
		t := l.next()
		switch {
		case t.kind == tokenEnd:
			return t
		case t.other("("):
			depth++
		case t.other(")"):
			depth--
			if depth == 0 {
				return l.next()
			}
		}
	}
}
