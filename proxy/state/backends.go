package state

import (
	"bytes"
	"slices"
	"strings"

	"crossfade/internal/base/sqltext"
)

// Backends is where a text names backends by their numbers.
type Backends struct {
	Literals [][2]int // where digits are in the text, from and to
	Params   []int    // parameters, from 0
}

// backendWords are the words of a text that concerns backends: functions that take the number of
// one, and views that list numbers. The name of a view may be longer.
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

// startsWithWord reports whether a text begins with a word of small letters, in whatever case.
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
	l := sqltext.Scanner{Src: text}
	var last [2]sqltext.Token // the tokens before, comparisons left out
	var left sqltext.Token    // what is to the left of the last comparison
	compares := false         // there is one between last[1] and what comes
	list := false             // within a list that a pid is compared with
	for t := l.Next(); t.Kind != sqltext.End; t = l.Next() {
		switch {
		case t.Punct('=') || t.Punct('<') || t.Punct('>') || t.Punct('!'):
			compares, left = true, last[1]
			continue
		case t.Is("in") || t.Is("any") || t.Is("all") || t.Is("array"):
			if isPID(last[1]) {
				compares = true
				continue
			}
		case t.Punct('(') || t.Punct('['):
			if compares && isPID(last[1]) {
				list = true
				continue
			}
		case t.Punct(')') || t.Punct(']'):
			list = false
		}
		switch {
		case isNumber(text, t):
			called := last[1].Punct('(') && takesBackend[last[0].Text]
			if called || (compares || list) && isPID(last[1]) {
				b.add(text, t)
				if list {
					continue // the next is compared with the same
				}
			}
		case t.Punct(',') && list:
			continue
		case isPID(t) && left.End > 0 && isNumber(text, left):
			b.add(text, left)
		case !t.Name() && !t.Punct('.'):
			left = sqltext.Token{}
		}
		compares = false
		last[0], last[1] = last[1], t
	}
	return b
}

func isPID(t sqltext.Token) bool { return t.Name() && t.Text == "pid" }

// isNumber reports whether a token can be the number of a backend.
func isNumber(text string, t sqltext.Token) bool {
	switch t.Kind {
	case sqltext.Param:
		return true
	case sqltext.String:
		return t.Plain && !t.Dollar && isDigits(t.Text) && text[t.Start] == '\''
	case sqltext.Number:
		return isDigits(text[t.Start:t.End])
	}
	return false
}

func isDigits(s string) bool {
	return s != "" && len(s) <= 10 && strings.Trim(s, "0123456789") == ""
}

func (b *Backends) add(text string, t sqltext.Token) {
	switch {
	case t.Kind == sqltext.Param:
		if n, ok := param([]sqltext.Token{t}); ok {
			b.Params = append(b.Params, n)
		}
	case t.Kind == sqltext.String:
		b.Literals = append(b.Literals, [2]int{t.Start + 1, t.End - 1})
	default:
		b.Literals = append(b.Literals, [2]int{t.Start, t.End})
	}
}

// Prepares tells of a text that makes one prepared statement by SQL: its name.
func Prepares(text string) (name string, ok bool) {
	l := sqltext.Scanner{Src: text}
	for t := l.Next(); t.Kind != sqltext.End; t = l.Next() {
		if !t.Is("prepare") {
			continue
		}
		if t = l.Next(); !t.Name() || t.Is("transaction") {
			continue
		}
		if ok {
			return "", false // which of them a parameter belongs to is not examined
		}
		name, ok = t.Text, true
	}
	return name, ok
}

// Executes reports whether a text may have an EXECUTE in it.
func Executes(text []byte) bool { return containsFold(text, "execute") }

// FindExecuted finds the constants that an EXECUTE hands to parameters of prepared
// statements: where their digits stand in the text, from and to. params are the parameters that
// are numbers of backends, from 0, by the name of the statement.
func FindExecuted(text string, params map[string][]int) (literals [][2]int) {
	l := sqltext.Scanner{Src: text}
	for t := l.Next(); t.Kind != sqltext.End; t = l.Next() {
		if !t.Is("execute") {
			continue
		}
		t = l.Next()
		wanted := params[t.Text]
		if !t.Name() || len(wanted) == 0 {
			continue
		}
		first := true // of an argument
		for depth, at := 0, 0; ; first = depth == 1 && (t.Punct('(') || t.Punct(',')) {
			t = l.Next()
			switch {
			case t.Punct('('):
				depth++
			case t.Punct(')'):
				depth--
			case t.Punct(',') && depth == 1:
				at++
			case first && depth == 1 && t.Kind != sqltext.Param && isNumber(text, t) && slices.Contains(wanted, at):
				var b Backends
				b.add(text, t)
				literals = append(literals, b.Literals...)
			}
			if t.Kind == sqltext.End || depth < 1 {
				break
			}
		}
	}
	return literals
}

// Numbered lists which parameters of a state's prepared statements are numbers of backends, by
// name, for at most limit statements; "" is the unnamed one.
func (s *State) Numbered(limit int) map[string][]int {
	out := map[string][]int{}
	add := func(st Statement, name string) {
		if !AboutBackends([]byte(st.Text)) || len(out) >= limit {
			return
		}
		text := st.Text
		if st.FromSQL { // it is in a text that may contain others
			body, err := st.body()
			if err != nil {
				return
			}
			text = body
		}
		if found := FindBackends(text).Params; len(found) > 0 {
			out[name] = found
		}
	}
	for name, st := range s.Late {
		add(st, name)
	}
	for name, st := range s.Statements {
		add(st, name)
	}
	if s.Unnamed != nil {
		add(*s.Unnamed, "")
	}
	return out
}
