package schema

import "strings"

// statement is one SQL statement inside a longer text.
type statement struct {
	sql        string // the whole text, which the tokens point into
	tokens     []token
	start, end int // where the statement lies in the text, its semicolon included
}

// split cuts SQL text at the semicolons that stand outside of quotations,
// comments and parentheses. Statements without a token are left out. It does
// not know of BEGIN ATOMIC, so the text of a function must not be given to it.
func split(sql string) []statement {
	var out []statement
	first, start := 0, 0
	tokens := lex(sql)
	for i, t := range tokens {
		if t.depth == 0 && t.kind == tokenPunct && sql[t.start] == ';' {
			if i > first {
				out = append(out, statement{sql: sql, tokens: tokens[first:i], start: start, end: t.end})
			}
			first, start = i+1, t.end
		}
	}
	if first < len(tokens) {
		out = append(out, statement{sql: sql, tokens: tokens[first:], start: start, end: len(sql)})
	}
	return out
}

// text is the statement without the whitespace and comments around it and without its semicolon.
func (s statement) text() string {
	return s.sql[s.tokens[0].start:s.tokens[len(s.tokens)-1].end]
}

// word reports whether token i is the unquoted word w, given in lower case.
func (s statement) word(i int, w string) bool {
	if i < 0 || i >= len(s.tokens) || s.tokens[i].kind != tokenWord {
		return false
	}
	t := s.tokens[i]
	return t.end-t.start == len(w) && strings.EqualFold(s.sql[t.start:t.end], w)
}

// words reports whether the tokens from i on are these unquoted words.
func (s statement) words(i int, ws ...string) bool {
	for n, w := range ws {
		if !s.word(i+n, w) {
			return false
		}
	}
	return true
}

// punct reports whether token i is the byte c.
func (s statement) punct(i int, c byte) bool {
	return i >= 0 && i < len(s.tokens) && s.tokens[i].kind == tokenPunct && s.sql[s.tokens[i].start] == c
}

// closed reports whether every parenthesis and bracket that opens in the
// statement is closed in it.
func (s statement) closed() bool {
	last := len(s.tokens) - 1
	return s.tokens[last].depth == 0 && !s.punct(last, '(') && !s.punct(last, '[')
}

// find returns the index of the first token from i on that stands outside of
// parentheses and is one of these unquoted words, or -1.
func (s statement) find(i int, ws ...string) int {
	for ; i < len(s.tokens); i++ {
		if s.tokens[i].depth != 0 {
			continue
		}
		for _, w := range ws {
			if s.word(i, w) {
				return i
			}
		}
	}
	return -1
}

// identifier returns the name that token i is, folded or unquoted as
// PostgreSQL does it, and whether it is one.
func (s statement) identifier(i int) (string, bool) {
	if i < 0 || i >= len(s.tokens) {
		return "", false
	}
	t := s.tokens[i]
	text := s.sql[t.start:t.end]
	switch t.kind {
	case tokenWord:
		return lowerASCII(text), true
	case tokenQuoted:
		if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
			return "", false
		}
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`), true
	}
	return "", false
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// edit is a replacement of a stretch of text.
type edit struct {
	start, end int
	text       string
}

// apply makes the edits, which are in order and do not overlap.
func apply(sql string, edits []edit) string {
	if len(edits) == 0 {
		return sql
	}
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.WriteString(sql[at:e.start])
		b.WriteString(e.text)
		at = e.end
	}
	b.WriteString(sql[at:])
	return b.String()
}
