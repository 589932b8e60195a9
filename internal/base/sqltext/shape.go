package sqltext

import (
	"strings"
	"unicode/utf8"
)

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
