package sqltext

import "strings"

// Kind is what a token is.
type Kind uint8

// Kinds of tokens.
const (
	End    Kind = iota // the text has no more tokens
	Word               // identifier without quotes, or keyword
	Quoted             // "identifier", U&"identifier"
	String             // '...', E'...', B'...', X'...', N'...', U&'...', $tag$...$tag$
	Number             // digits and what clings to them
	Param              // $1
	Punct              // any other byte
)

// Token is one lexical element.
type Token struct {
	Kind Kind
	// Text is a Word in lower case (ASCII letters only, as PostgreSQL folds keywords), a Quoted
	// without its quotes, the body of a String, the number of a Param, and the text itself for all
	// others.
	Text       string
	Plain      bool // String: the body is the value, with no escapes in it
	Dollar     bool // String: quoted by dollars
	Start, End int  // byte offsets into the text
	Depth      int  // parentheses and brackets around it; one that opens counts itself out, and so does the one that closes it
}

// Is reports whether the token is an unquoted word, given in lower case.
func (t Token) Is(word string) bool { return t.Kind == Word && t.Text == word }

// Punct reports whether the token is this byte.
func (t Token) Punct(c byte) bool { return t.Kind == Punct && t.Text[0] == c }

// Name reports whether the token is an identifier, quoted or not; a keyword counts as one.
func (t Token) Name() bool { return t.Kind == Word || t.Kind == Quoted }

// Scanner scans a text. The zero value with Src is ready; a copy of one continues from where that
// one is. It is not safe for concurrent use.
type Scanner struct {
	Src string
	Pos int // where the next token is searched for
	// Escapes says that backslashes in '...' are escapes: standard_conforming_strings is off.
	Escapes bool

	depth int
}

// All returns the tokens of a text, under standard_conforming_strings on.
func All(sql string) []Token {
	s := Scanner{Src: sql}
	tokens := make([]Token, 0, len(sql)/6+4)
	for {
		t := s.Next()
		if t.Kind == End {
			return tokens
		}
		tokens = append(tokens, t)
	}
}

// Next returns the next token, one of kind End when there is none.
func (s *Scanner) Next() Token {
	s.skipSpace()
	start := s.Pos
	if start >= len(s.Src) {
		return Token{Kind: End, Start: start, End: start, Depth: s.depth}
	}
	c := s.Src[start]
	if (c == ')' || c == ']') && s.depth > 0 {
		s.depth--
	}
	t := s.scan(c)
	t.Start, t.End, t.Depth = start, s.Pos, s.depth
	if c == '(' || c == '[' {
		s.depth++
	}
	return t
}

func (s *Scanner) scan(c byte) Token {
	switch {
	case c == '\'':
		s.Pos++
		return s.quoted(s.Escapes)
	case c == '"':
		s.Pos++
		return s.quotedName()
	case c == '$':
		return s.dollar()
	case wordStart(c):
		return s.word(c)
	case digit(c):
		start := s.Pos
		for s.Pos < len(s.Src) && (wordPart(s.Src[s.Pos]) || s.Src[s.Pos] == '.') {
			s.Pos++
		}
		return Token{Kind: Number, Text: s.Src[start:s.Pos]}
	}
	s.Pos++
	return Token{Kind: Punct, Text: s.Src[s.Pos-1 : s.Pos]}
}

// word reads an identifier, or a string with a prefix.
func (s *Scanner) word(c byte) Token {
	rest := s.Src[s.Pos:]
	if len(rest) > 1 && rest[1] == '\'' && strings.IndexByte("eEbBxXnN", c) >= 0 {
		s.Pos += 2
		t := s.quoted(c == 'e' || c == 'E' || s.Escapes && (c == 'n' || c == 'N'))
		t.Plain = t.Plain && strings.IndexByte("eEnN", c) >= 0
		return t
	}
	if len(rest) > 2 && (c == 'u' || c == 'U') && rest[1] == '&' && (rest[2] == '\'' || rest[2] == '"') {
		s.Pos += 3
		if rest[2] == '"' {
			return s.quotedName()
		}
		t := s.quoted(false)
		t.Plain = false
		return t
	}
	start := s.Pos
	for s.Pos < len(s.Src) && wordPart(s.Src[s.Pos]) {
		s.Pos++
	}
	return Token{Kind: Word, Text: Lower(s.Src[start:s.Pos])}
}

// quoted reads a string from after its opening quote on, with the segments that continue it.
func (s *Scanner) quoted(escapes bool) Token {
	body, plain, ended := s.segment(escapes)
	for ended && s.continued() {
		var more string
		var alsoPlain bool
		more, alsoPlain, ended = s.segment(escapes)
		body, plain = body+more, plain && alsoPlain
	}
	return Token{Kind: String, Text: body, Plain: plain && ended}
}

// segment reads from after an opening quote to the closing one, or to the text's end.
func (s *Scanner) segment(escapes bool) (body string, plain, ended bool) {
	start, doubled, escaped := s.Pos, false, false
	for s.Pos < len(s.Src) {
		switch c := s.Src[s.Pos]; {
		case c == '\\' && escapes:
			escaped = true
			s.Pos += 2
		case c == '\'' && s.Pos+1 < len(s.Src) && s.Src[s.Pos+1] == '\'':
			doubled = true
			s.Pos += 2
		case c == '\'':
			body := s.Src[start:s.Pos]
			s.Pos++
			if doubled {
				body = strings.ReplaceAll(body, "''", "'")
			}
			return body, !escaped, true
		default:
			s.Pos++
		}
	}
	s.Pos = len(s.Src)
	return s.Src[min(start, s.Pos):], false, false
}

// continued skips what is between two segments of one string, and the next opening quote: white
// space with a line's end in it, line comments among it (quotecontinue of scan.l). It does not move
// if there is none.
func (s *Scanner) continued() bool {
	newline := false
	for i := s.Pos; i < len(s.Src); i++ {
		switch c := s.Src[i]; {
		case c == '\n' || c == '\r':
			newline = true
		case c == ' ' || c == '\t' || c == '\f' || c == '\v':
		case c == '\'' && newline:
			s.Pos = i + 1
			return true
		case strings.HasPrefix(s.Src[i:], "--"):
			end := strings.IndexAny(s.Src[i:], "\r\n")
			if end < 0 {
				return false
			}
			i += end - 1
		default:
			return false
		}
	}
	return false
}

func (s *Scanner) quotedName() Token {
	start, doubled := s.Pos, false
	for s.Pos < len(s.Src) {
		if s.Src[s.Pos] != '"' {
			s.Pos++
			continue
		}
		if s.Pos+1 >= len(s.Src) || s.Src[s.Pos+1] != '"' {
			body := s.Src[start:s.Pos]
			s.Pos++
			if doubled {
				body = strings.ReplaceAll(body, `""`, `"`)
			}
			return Token{Kind: Quoted, Text: body}
		}
		doubled = true
		s.Pos += 2
	}
	return Token{Kind: Quoted, Text: strings.ReplaceAll(s.Src[start:], `""`, `"`)}
}

// dollar reads $1, $tag$...$tag$, or a lone dollar sign.
func (s *Scanner) dollar() Token {
	rest := s.Src[s.Pos:]
	if len(rest) > 1 && digit(rest[1]) {
		s.Pos++
		start := s.Pos
		for s.Pos < len(s.Src) && digit(s.Src[s.Pos]) {
			s.Pos++
		}
		return Token{Kind: Param, Text: s.Src[start:s.Pos]}
	}
	end := 1
	for end < len(rest) && rest[end] != '$' && wordPart(rest[end]) {
		end++
	}
	if end >= len(rest) || rest[end] != '$' {
		s.Pos++
		return Token{Kind: Punct, Text: "$"}
	}
	tag, body := rest[:end+1], rest[end+1:]
	i := strings.Index(body, tag)
	if i < 0 {
		s.Pos = len(s.Src)
		return Token{Kind: String, Text: body, Dollar: true}
	}
	s.Pos += len(tag) + i + len(tag)
	return Token{Kind: String, Text: body[:i], Plain: true, Dollar: true}
}

// skipSpace steps over white space and comments.
func (s *Scanner) skipSpace() {
	for s.Pos < len(s.Src) {
		rest := s.Src[s.Pos:]
		switch c := rest[0]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			s.Pos++
		case strings.HasPrefix(rest, "--"):
			i := strings.IndexAny(rest, "\r\n")
			if i < 0 {
				i = len(rest)
			}
			s.Pos += i
		case strings.HasPrefix(rest, "/*"):
			s.Pos += comment(rest)
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

func digit(c byte) bool     { return c >= '0' && c <= '9' }
func wordStart(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= 0x80 }
func wordPart(c byte) bool  { return wordStart(c) || digit(c) || c == '$' }

// Lower folds ASCII letters, and no others, as PostgreSQL folds keywords and names of settings.
func Lower(s string) string {
	for i := range len(s) {
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
