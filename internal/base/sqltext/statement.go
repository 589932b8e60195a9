package sqltext

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Statement is one SQL statement inside a longer text.
type Statement struct {
	SQL        string // the whole text, which the tokens point into
	Tokens     []Token
	Start, End int // where the statement lies in the text, its semicolon included
}

// Split cuts SQL text at the semicolons that are outside quotations, comments and parentheses.
// Statements without a token are left out. It does not know of BEGIN ATOMIC, so the text of a
// function must not be given to it.
func Split(sql string) []Statement {
	var out []Statement
	first, start := 0, 0
	tokens := All(sql)
	for i, t := range tokens {
		if t.Depth == 0 && t.Kind == Punct && sql[t.Start] == ';' {
			if i > first {
				out = append(out, Statement{SQL: sql, Tokens: tokens[first:i], Start: start, End: t.End})
			}
			first, start = i+1, t.End
		}
	}
	if first < len(tokens) {
		out = append(out, Statement{SQL: sql, Tokens: tokens[first:], Start: start, End: len(sql)})
	}
	return out
}

// Whole is a text as one statement.
func Whole(sql string) Statement { return Statement{SQL: sql, Tokens: All(sql), End: len(sql)} }

// One returns the statement of a text that has only one; ok is false for any other text.
func One(sql string) (s Statement, ok bool) {
	if all := Split(sql); len(all) == 1 {
		return all[0], true
	}
	return s, false
}

// Text is the statement without the whitespace and comments around it and without its semicolon.
func (s Statement) Text() string {
	return s.SQL[s.Tokens[0].Start:s.Tokens[len(s.Tokens)-1].End]
}

// Word reports whether token i is the unquoted word w, given in lower case.
func (s Statement) Word(i int, w string) bool {
	if i < 0 || i >= len(s.Tokens) || s.Tokens[i].Kind != Word {
		return false
	}
	t := s.Tokens[i]
	return t.End-t.Start == len(w) && strings.EqualFold(s.SQL[t.Start:t.End], w)
}

// Words reports whether the tokens from i on are these unquoted words.
func (s Statement) Words(i int, ws ...string) bool {
	for n, w := range ws {
		if !s.Word(i+n, w) {
			return false
		}
	}
	return true
}

// Punct reports whether token i is the byte c.
func (s Statement) Punct(i int, c byte) bool {
	return i >= 0 && i < len(s.Tokens) && s.Tokens[i].Kind == Punct && s.SQL[s.Tokens[i].Start] == c
}

// Closed reports whether every parenthesis and bracket that opens in the statement is closed in it.
func (s Statement) Closed() bool {
	last := len(s.Tokens) - 1
	return s.Tokens[last].Depth == 0 && !s.Punct(last, '(') && !s.Punct(last, '[')
}

// Find returns the index of the first token from i on that is outside parentheses and is one of
// these unquoted words, or -1.
func (s Statement) Find(i int, ws ...string) int {
	for ; i < len(s.Tokens); i++ {
		if s.Tokens[i].Depth == 0 && slices.ContainsFunc(ws, func(w string) bool { return s.Word(i, w) }) {
			return i
		}
	}
	return -1
}

// Open returns the index of the first parenthesis that opens outside all others, or -1.
func (s Statement) Open() int {
	return slices.IndexFunc(s.Tokens, func(t Token) bool { return t.Depth == 0 && t.Punct('(') })
}

// Identifier returns the name that token i is, folded or unquoted as
// PostgreSQL does it, and whether it is one.
func (s Statement) Identifier(i int) (string, bool) {
	if i < 0 || i >= len(s.Tokens) {
		return "", false
	}
	t := s.Tokens[i]
	text := s.SQL[t.Start:t.End]
	switch t.Kind {
	case Word:
		return Lower(text), true
	case Quoted:
		if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
			return "", false
		}
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`), true
	}
	return "", false
}

// Between is the text of the tokens from i to before j.
func (s Statement) Between(i, j int) string { return s.SQL[s.Tokens[i].Start:s.Tokens[j-1].End] }

// Parentheses returns the text from the opening parenthesis that token i is to
// the one that closes it, and the token after that.
func (s Statement) Parentheses(i int) (text string, next int, ok bool) {
	if !s.Punct(i, '(') {
		return "", i, false
	}
	for n := i + 1; n < len(s.Tokens); n++ {
		if s.Tokens[n].Depth == s.Tokens[i].Depth && s.Punct(n, ')') {
			return s.SQL[s.Tokens[i].Start:s.Tokens[n].End], n + 1, true
		}
	}
	return "", i, false
}

// List cuts what stands in the parentheses that token open begins at its commas.
// next is the token after them.
func (s Statement) List(open int) (items []Statement, next int, ok bool) {
	_, next, ok = s.Parentheses(open)
	if !ok {
		return nil, open, false
	}
	first, depth := open+1, s.Tokens[open].Depth+1
	for i := open + 1; i < next; i++ {
		if i == next-1 || s.Punct(i, ',') && s.Tokens[i].Depth == depth {
			if i > first {
				items = append(items, Statement{SQL: s.SQL, Tokens: lifted(s.Tokens[first:i], depth), Start: s.Tokens[first].Start, End: s.Tokens[i-1].End})
			}
			first = i + 1
		}
	}
	return items, next, true
}

// lifted counts the depth of tokens from another one.
func lifted(tokens []Token, depth int) []Token {
	out := slices.Clone(tokens)
	for i := range out {
		out[i].Depth -= depth
	}
	return out
}

// Edit is a replacement of a stretch of text.
type Edit struct {
	Start, End int
	Text       string
}

// Apply makes the edits, which are in order and do not overlap.
func Apply(sql string, edits []Edit) string {
	if len(edits) == 0 {
		return sql
	}
	var b strings.Builder
	at := 0
	for _, e := range edits {
		b.WriteString(sql[at:e.Start])
		b.WriteString(e.Text)
		at = e.End
	}
	b.WriteString(sql[at:])
	return b.String()
}

// Shape returns a statement as messages may show it: without its constants, which may be secrets or
// someone's data, and without comments, on one line of at most most characters. Names stay. It
// takes any text, also one that was cut off.
func Shape(sql string, most int) string {
	var out strings.Builder
	s := Scanner{Src: sql}
scan:
	for at := 0; ; {
		t := s.Next()
		if t.Start > at && out.Len() > 0 {
			out.WriteByte(' ')
		}
		if at = t.End; t.Kind == End {
			break scan
		}
		written := sql[t.Start:t.End]
		switch t.Kind {
		case String:
			if !t.Dollar {
				out.WriteString(written[:strings.IndexByte(written, '\'')])
			}
			out.WriteByte('?')
		case Number:
			out.WriteByte('?')
		default:
			out.WriteString(written)
		}
		if t.Kind == String && !t.Dollar && uncertain(written) {
			break scan
		}
	}
	text := strings.ToValidUTF8(strings.TrimSpace(out.String()), "?")
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return text
}

// uncertain reports whether the end of a string depends on a setting of the session, which is not
// known here: by standard_conforming_strings a backslash before a quote escapes it or not. Nothing
// after such a string may be shown.
func uncertain(written string) bool {
	if written[0] == 'e' || written[0] == 'E' {
		return false
	}
	for i := 0; i+1 < len(written); i++ {
		if written[i] != '\\' {
			continue
		}
		if written[i+1] == '\'' {
			return true
		}
		i++
	}
	return false
}
