package schema

import "strings"

// tokenKind says what a token of SQL text is.
type tokenKind uint8

const (
	tokenWord   tokenKind = iota // unquoted identifier or keyword
	tokenQuoted                  // "quoted identifier"
	tokenString                  // '...', E'...', $tag$...$tag$
	tokenNumber                  // digits and what clings to them, $1 included
	tokenPunct                   // any other single byte
)

// token is one lexical element of a statement. Whitespace and comments are no tokens.
type token struct {
	kind       tokenKind
	start, end int // byte offsets into the text
	depth      int // open parentheses and brackets around it; an opening one counts itself out, so does its closing one
}

// lex splits SQL text into tokens as PostgreSQL's scanner does with
// standard_conforming_strings on. It never fails: text that ends inside a
// quotation or a comment ends there, and every other byte is punctuation.
func lex(sql string) []token {
	l := lexer{sql: sql, tokens: make([]token, 0, len(sql)/6+4)}
	for l.pos < len(sql) {
		l.next()
	}
	return l.tokens
}

type lexer struct {
	sql    string
	pos    int
	depth  int
	tokens []token
}

func (l *lexer) peek(offset int) byte {
	if l.pos+offset < len(l.sql) {
		return l.sql[l.pos+offset]
	}
	return 0
}

func (l *lexer) add(kind tokenKind, end int) {
	if end > len(l.sql) {
		end = len(l.sql)
	}
	l.tokens = append(l.tokens, token{kind: kind, start: l.pos, end: end, depth: l.depth})
	l.pos = end
}

func (l *lexer) next() {
	c := l.peek(0)
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		l.pos++
	case c == '-' && l.peek(1) == '-':
		if n := strings.IndexAny(l.sql[l.pos:], "\r\n"); n >= 0 {
			l.pos += n
		} else {
			l.pos = len(l.sql)
		}
	case c == '/' && l.peek(1) == '*':
		l.pos = l.commentEnd()
	case c == '\'':
		l.add(tokenString, l.quoteEnd(l.pos, '\'', false))
	case c == '"':
		l.add(tokenQuoted, l.quoteEnd(l.pos, '"', false))
	case (c == 'e' || c == 'E') && l.peek(1) == '\'':
		l.add(tokenString, l.quoteEnd(l.pos+1, '\'', true))
	case strings.IndexByte("bBxXnN", c) >= 0 && l.peek(1) == '\'':
		l.add(tokenString, l.quoteEnd(l.pos+1, '\'', false))
	case (c == 'u' || c == 'U') && l.peek(1) == '&' && l.peek(2) == '\'':
		l.add(tokenString, l.quoteEnd(l.pos+2, '\'', false))
	case (c == 'u' || c == 'U') && l.peek(1) == '&' && l.peek(2) == '"':
		l.add(tokenQuoted, l.quoteEnd(l.pos+2, '"', false))
	case isWordStart(c):
		end := l.pos + 1
		for end < len(l.sql) && isWordByte(l.sql[end]) {
			end++
		}
		l.add(tokenWord, end)
	case isDigit(c):
		l.add(tokenNumber, l.numberEnd(l.pos))
	case c == '$':
		l.dollar()
	case c == '(' || c == '[':
		l.add(tokenPunct, l.pos+1)
		l.depth++
	case c == ')' || c == ']':
		if l.depth > 0 {
			l.depth--
		}
		l.add(tokenPunct, l.pos+1)
	default:
		l.add(tokenPunct, l.pos+1)
	}
}

// dollar reads a dollar-quoted string, a parameter, or a lone dollar sign.
func (l *lexer) dollar() {
	if isDigit(l.peek(1)) {
		l.add(tokenNumber, l.numberEnd(l.pos+1))
		return
	}
	end := l.pos + 1
	if end < len(l.sql) && isWordStart(l.sql[end]) {
		for end < len(l.sql) && isWordByte(l.sql[end]) && l.sql[end] != '$' {
			end++
		}
	}
	if end >= len(l.sql) || l.sql[end] != '$' {
		l.add(tokenPunct, l.pos+1)
		return
	}
	tag := l.sql[l.pos : end+1]
	if n := strings.Index(l.sql[end+1:], tag); n >= 0 {
		l.add(tokenString, end+1+n+len(tag))
		return
	}
	l.add(tokenString, len(l.sql))
}

// quoteEnd returns the offset behind the quotation that opens at open.
func (l *lexer) quoteEnd(open int, quote byte, backslash bool) int {
	for i := open + 1; i < len(l.sql); i++ {
		switch {
		case backslash && l.sql[i] == '\\':
			i++
		case l.sql[i] == quote:
			if i+1 < len(l.sql) && l.sql[i+1] == quote {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(l.sql)
}

// commentEnd returns the offset behind a block comment; they nest.
func (l *lexer) commentEnd() int {
	level := 0
	for i := l.pos; i < len(l.sql); i++ {
		switch {
		case strings.HasPrefix(l.sql[i:], "/*"):
			level++
			i++
		case strings.HasPrefix(l.sql[i:], "*/"):
			level--
			i++
			if level == 0 {
				return i + 1
			}
		}
	}
	return len(l.sql)
}

func (l *lexer) numberEnd(i int) int {
	for i < len(l.sql) && (isWordByte(l.sql[i]) || l.sql[i] == '.') {
		i++
	}
	return i
}

func isDigit(c byte) bool     { return c >= '0' && c <= '9' }
func isWordStart(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }
func isWordByte(c byte) bool  { return isWordStart(c) || isDigit(c) || c == '$' }
