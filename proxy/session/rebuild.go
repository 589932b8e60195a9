package session

import (
	"errors"
	"fmt"
	"strings"

	"crossfade/internal/pg"
)

var errNotIsolated = errors.New("its PREPARE cannot be told apart in the text that made it")

// RebuildPrepare makes one PREPARE of a statement that was prepared by SQL. The
// server keeps the whole query string that the PREPARE stood in, which must
// never be run again: other statements of it would be repeated.
func RebuildPrepare(s Statement) (string, error) {
	body, err := s.body()
	if err != nil {
		return "", err
	}
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
	// Where strings end depends on standard_conforming_strings at that time.
	conforming, known := s.Under["standard_conforming_strings"]
	if known {
		return prepareBody(s.Text, s.Name, conforming == "off")
	}
	body, err := prepareBody(s.Text, s.Name, false)
	if err == nil && strings.Contains(s.Text, `\`) {
		if other, err := prepareBody(s.Text, s.Name, true); err != nil || other != body {
			return "", errNotIsolated
		}
	}
	return body, err
}

// prepareBody finds the one PREPARE of this name and returns what stands behind AS.
func prepareBody(text, name string, escapes bool) (string, error) {
	l := lexer{src: text, escapes: escapes}
	found, body := 0, ""
	for {
		t := l.next()
		if t.kind == tokenEnd {
			break
		}
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
			found++
			body = strings.TrimSpace(text[start:end])
		}
	}
	if found != 1 || body == "" {
		return "", errNotIsolated
	}
	return body, nil
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
