package session

import "bytes"

// Backends is where a text names backends by their numbers.
type Backends struct {
	Literals [][2]int // where digits stand in the text, from and to
	Params   []int    // parameters, from 0
}

// backendWords are what a text that is about backends has in it: functions that take the
// number of one, and views that list numbers. The name of a view may go on.
var backendWords = []string{"pg_cancel_backend", "pg_terminate_backend", "pg_log_backend_memory_contexts", "pg_blocking_pids", "pg_stat_get_", "pg_stat_", "pg_locks"}

// takesBackend are the functions among these.
var takesBackend = map[string]bool{
	"pg_cancel_backend": true, "pg_terminate_backend": true, "pg_log_backend_memory_contexts": true,
	"pg_blocking_pids": true, "pg_safe_snapshot_blocking_pids": true, "pg_stat_get_activity": true,
}

// AboutBackends reports whether a text is about backends by their numbers. It is asked of
// every statement of a session that has moved, and allocates nothing.
func AboutBackends(text []byte) bool {
	for at := 0; ; at++ {
		i := bytes.IndexByte(text[at:], '_')
		if i < 0 {
			return false
		}
		at += i
		if at < 2 {
			continue
		}
		for _, w := range backendWords {
			if startsWithWord(text[at-2:], w) {
				return true
			}
		}
	}
}

// startsWithWord reports whether a text begins with a word of small letters, in
// whatever case.
func startsWithWord(text []byte, w string) bool {
	if len(text) < len(w) {
		return false
	}
	for i := range len(w) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != w[i] {
			return false
		}
	}
	return true
}

// FindBackends finds the numbers of backends in a text that is about them: what a function is
// called with, and what a column pid is compared with.
func FindBackends(text string) Backends {
	var b Backends
	l := lexer{src: text}
	var last [2]token // the tokens before, comparisons left out
	var left token    // what stands to the left of the last comparison
	compares := false // there is one between last[1] and what comes
	list := false     // within a list that a pid is compared with
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		switch {
		case t.other("=") || t.other("<") || t.other(">") || t.other("!"):
			compares, left = true, last[1]
			continue
		case t.word("in") || t.word("any") || t.word("all") || t.word("array"):
			if isPID(last[1]) {
				compares = true
				continue
			}
		case t.other("(") || t.other("["):
			if compares && isPID(last[1]) {
				list = true
				continue
			}
		case t.other(")") || t.other("]"):
			list = false
		}
		switch {
		case isNumber(text, t):
			called := last[1].other("(") && takesBackend[last[0].text]
			if called || (compares || list) && isPID(last[1]) {
				b.add(text, t)
				if list {
					continue // the next is compared with the same
				}
			}
		case t.other(",") && list:
			continue
		case isPID(t) && left.end > 0 && isNumber(text, left):
			b.add(text, left)
		case !t.name() && !t.other("."):
			left = token{}
		}
		compares = false
		last[0], last[1] = last[1], t
	}
	return b
}

func isPID(t token) bool { return t.name() && t.text == "pid" }

// isNumber reports whether a token can be the number of a backend.
func isNumber(text string, t token) bool {
	switch t.kind {
	case tokenParam:
		return true
	case tokenString:
		return t.plain && !t.dollar && isDigits(t.text) && text[t.start] == '\''
	case tokenOther:
		return isDigits(text[t.start:t.end])
	}
	return false
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 10
}

func (b *Backends) add(text string, t token) {
	switch {
	case t.kind == tokenParam:
		if n, ok := param([]token{t}); ok {
			b.Params = append(b.Params, n)
		}
	case t.kind == tokenString:
		b.Literals = append(b.Literals, [2]int{t.start + 1, t.end - 1})
	default:
		b.Literals = append(b.Literals, [2]int{t.start, t.end})
	}
}
