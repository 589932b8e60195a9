package session

import "strings"

// tokenKind is what the lexer tells apart. Comments and white space are skipped.
type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenWord             // unquoted identifier or keyword; text is in lower case
	tokenQuoted           // "identifier"; text is without the quotes
	tokenString           // string constant of any form; text is its body
	tokenParam            // $1; text is its number
	tokenOther            // number, operator or punctuation; text is its first byte
)

// token is one lexical element of a statement.
type token struct {
	kind       tokenKind
	text       string
	plain      bool // tokenString: the body says what the value is, without escapes
	dollar     bool // tokenString: quoted by dollars
	start, end int  // byte positions in the source
}

func (t token) word(s string) bool  { return t.kind == tokenWord && t.text == s }
func (t token) other(c string) bool { return t.kind == tokenOther && t.text == c }
func (t token) name() bool          { return t.kind == tokenWord || t.kind == tokenQuoted }

// lexer splits SQL the way PostgreSQL's scanner does (documentation 4.1), as far
// as names of settings and the ends of statements need it. It takes any bytes
// and never fails: what is unterminated ends with the text.
type lexer struct {
	src string
	pos int
	// escapes: backslashes in plain '...' are escapes (standard_conforming_strings is off).
	escapes bool
}

func (l *lexer) next() token {
	l.skipSpace()
	start := l.pos
	if start >= len(l.src) {
		return token{kind: tokenEnd, start: start, end: start}
	}
	t := l.scan(l.src[start])
	t.start, t.end = start, l.pos
	return t
}

func (l *lexer) scan(c byte) token {
	switch {
	case c == '\'':
		l.pos++
		return l.quoted(l.escapes)
	case c == '"':
		l.pos++
		return l.quotedName()
	case c == '$':
		return l.dollar()
	case wordStart(c):
		return l.word(c)
	case c >= '0' && c <= '9':
		for l.pos < len(l.src) && (wordPart(l.src[l.pos]) || l.src[l.pos] == '.') {
			l.pos++
		}
		return token{kind: tokenOther, text: "0"}
	}
	l.pos++
	return token{kind: tokenOther, text: l.src[l.pos-1 : l.pos]}
}

// word scans an identifier, or a string with a prefix: E'..', B'..', X'..', N'..', U&'..', U&"..".
func (l *lexer) word(c byte) token {
	rest := l.src[l.pos:]
	if len(rest) > 1 && rest[1] == '\'' && strings.IndexByte("eEbBxXnN", c) >= 0 {
		l.pos += 2
		t := l.quoted(c == 'e' || c == 'E')
		t.plain = t.plain && strings.IndexByte("eEnN", c) >= 0
		return t
	}
	if len(rest) > 2 && (c == 'u' || c == 'U') && rest[1] == '&' && (rest[2] == '\'' || rest[2] == '"') {
		l.pos += 3
		if rest[2] == '"' {
			return l.quotedName()
		}
		t := l.quoted(false)
		t.plain = false
		return t
	}
	start := l.pos
	for l.pos < len(l.src) && wordPart(l.src[l.pos]) {
		l.pos++
	}
	return token{kind: tokenWord, text: lowerASCII(l.src[start:l.pos])}
}

// quoted scans a string constant whose opening quote is behind it.
func (l *lexer) quoted(escapes bool) token {
	start, doubled, escaped := l.pos, false, false
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\\' && escapes:
			escaped = true
			l.pos += 2
		case c == '\'' && l.pos+1 < len(l.src) && l.src[l.pos+1] == '\'':
			doubled = true
			l.pos += 2
		case c == '\'':
			body := l.src[start:l.pos]
			l.pos++
			if doubled {
				body = strings.ReplaceAll(body, "''", "'")
			}
			return token{kind: tokenString, text: body, plain: !escaped}
		default:
			l.pos++
		}
	}
	l.pos = len(l.src)
	return token{kind: tokenString, text: l.src[min(start, l.pos):], plain: false}
}

func (l *lexer) quotedName() token {
	var b strings.Builder
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		l.pos++
		if c == '"' {
			if l.pos >= len(l.src) || l.src[l.pos] != '"' {
				break
			}
			l.pos++
		}
		b.WriteByte(c)
	}
	return token{kind: tokenQuoted, text: b.String()}
}

// dollar scans $1, $tag$ ... $tag$, or a lone dollar.
func (l *lexer) dollar() token {
	rest := l.src[l.pos:]
	if len(rest) > 1 && rest[1] >= '0' && rest[1] <= '9' {
		l.pos++
		start := l.pos
		for l.pos < len(l.src) && l.src[l.pos] >= '0' && l.src[l.pos] <= '9' {
			l.pos++
		}
		return token{kind: tokenParam, text: l.src[start:l.pos]}
	}
	end := 1
	for end < len(rest) && rest[end] != '$' && wordPart(rest[end]) {
		end++
	}
	if end >= len(rest) || rest[end] != '$' {
		l.pos++
		return token{kind: tokenOther, text: "$"}
	}
	tag := rest[:end+1]
	body := rest[end+1:]
	i := strings.Index(body, tag)
	if i < 0 {
		l.pos = len(l.src)
		return token{kind: tokenString, text: body, dollar: true}
	}
	l.pos += len(tag) + i + len(tag)
	return token{kind: tokenString, text: body[:i], plain: true, dollar: true}
}

// skipSpace steps over white space and comments; /* */ nests.
func (l *lexer) skipSpace() {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch c := rest[0]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			l.pos++
		case strings.HasPrefix(rest, "--"):
			i := strings.IndexAny(rest, "\r\n")
			if i < 0 {
				i = len(rest)
			}
			l.pos += i
		case strings.HasPrefix(rest, "/*"):
			l.pos += comment(rest)
		default:
			return
		}
	}
}

// comment returns the length of the nested comment that s begins with.
func comment(s string) int {
	depth := 0
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(s)
}

func wordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func wordPart(c byte) bool { return wordStart(c) || c >= '0' && c <= '9' || c == '$' }

// lowerASCII folds as PostgreSQL folds names of settings: ASCII letters only.
func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
