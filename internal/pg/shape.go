package pg

import (
	"strings"
	"unicode/utf8"
)

// Shape returns a statement as messages may show it: without its constants, which may be secrets or somebody's data, and
// without comments, on one line of at most most characters. Names stay. It takes any text, also one that was cut off.
func Shape(sql string, most int) string {
	s := shaper{src: sql}
	for s.at < len(s.src) {
		s.next()
	}
	text := strings.ToValidUTF8(strings.TrimSpace(s.out.String()), "?")
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return text
}

type shaper struct {
	src string
	at  int
	out strings.Builder
}

func (s *shaper) peek(n int) byte {
	if s.at+n < len(s.src) {
		return s.src[s.at+n]
	}
	return 0
}

func (s *shaper) put(text string) { s.out.WriteString(text) }

// space writes one space, whatever stood there.
func (s *shaper) space() {
	if t := s.out.String(); t != "" && !strings.HasSuffix(t, " ") {
		s.put(" ")
	}
}

func (s *shaper) next() {
	c := s.src[s.at]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		s.at++
		s.space()
	case c == '-' && s.peek(1) == '-':
		s.skipTo("\n")
		s.space()
	case c == '/' && s.peek(1) == '*':
		s.comment()
		s.space()
	case c == '\'':
		s.at++
		s.quoted('\'', true) // a backslash may be an escape: then what follows it is no end
		s.put("?")
	case c == '"':
		begin := s.at
		s.at++
		s.quoted('"', false)
		s.put(s.src[begin:s.at])
	case c == '$':
		s.dollar()
	case c >= '0' && c <= '9':
		for s.at < len(s.src) && (shapeWord(s.src[s.at]) || s.src[s.at] == '.') {
			s.at++
		}
		s.put("?")
	case shapeWord(c):
		begin := s.at
		for s.at < len(s.src) && (shapeWord(s.src[s.at]) || s.src[s.at] == '$') {
			s.at++
		}
		s.put(s.src[begin:s.at])
	default:
		s.at++
		s.put(string(c))
	}
}

func shapeWord(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= utf8.RuneSelf
}

func (s *shaper) skipTo(end string) {
	if n := strings.Index(s.src[s.at:], end); n >= 0 {
		s.at += n
		return
	}
	s.at = len(s.src)
}

// comment skips one of the nesting kind.
func (s *shaper) comment() {
	for depth := 0; s.at < len(s.src); {
		switch {
		case s.src[s.at] == '/' && s.peek(1) == '*':
			depth++
			s.at += 2
		case s.src[s.at] == '*' && s.peek(1) == '/':
			depth--
			s.at += 2
			if depth == 0 {
				return
			}
		default:
			s.at++
		}
	}
}

// quoted skips to behind the closing quote; a doubled one is none.
func (s *shaper) quoted(quote byte, escapes bool) {
	for s.at < len(s.src) {
		c := s.src[s.at]
		s.at++
		switch {
		case escapes && c == '\\' && s.at < len(s.src) && s.src[s.at] == '\\':
			s.at++
		case escapes && c == '\\' && s.peek(0) == quote && s.escaped():
			s.at++
		case c == quote && s.peek(0) == quote:
			s.at++
		case c == quote:
			return
		}
	}
}

// escaped tells whether a quote that follows a backslash is taken for an escaped one: where that is not certain, the
// constant is taken to be longer, so that nothing of it is shown.
func (s *shaper) escaped() bool { return strings.IndexByte(s.src[s.at+1:], '\'') >= 0 }

// dollar reads a dollar-quoted constant or a parameter.
func (s *shaper) dollar() {
	end := s.at + 1
	for end < len(s.src) && shapeWord(s.src[end]) {
		end++
	}
	if end < len(s.src) && s.src[end] == '$' && (s.src[s.at+1] < '0' || s.src[s.at+1] > '9') {
		tag := s.src[s.at : end+1]
		s.at = end + 1
		s.skipTo(tag)
		s.at = min(s.at+len(tag), len(s.src))
		s.put("?")
		return
	}
	s.put(s.src[s.at:end])
	s.at = end
}
