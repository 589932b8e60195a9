package state

import (
	"slices"
	"strconv"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/sqltext"
)

// maxNesting bounds how deep strings within strings are searched for names. A DO body with a
// dynamic statement that calls set_config needs two levels.
const maxNesting = 4

// how says what a text is to the session that sends it.
type how int

const (
	data how = iota // a constant of an ordinary statement: nothing of it runs
	live            // it runs unchanged
	code            // the body of a DO or a function, or a constant in one, which may be a part of what runs
)

// scan looks for SET a.b, set_config('a.b', current_setting('a.b' and RESET or
// SHOW a.b in one text. It is liberal: a name too many costs one look, a name too
// few would lose a setting. What it cannot read off is computed.
type scan struct {
	sqltext.Scanner
	names    *Names
	how      how
	depth    int
	params   *[]int // parameters that are names; nil where there is no statement to bind them
	prepared string // statement that is being made by PREPARE
	computed string // why not all names are known
	budget   int    // bytes that may still be read ahead
}

// peekBudget bounds the time that calls within calls can cost: without it, it
// would grow with the square of a text that a client chooses.
func peekBudget(text string) int { return 4*len(text) + 4096 }

func (s *scan) run() {
	var prev sqltext.Token
	begins := true
	inner := s.how
	for t := s.Next(); t.Kind != sqltext.End; {
		if begins {
			inner = s.begin(t)
		}
		next := s.Next()
		if t.Kind == sqltext.String || t.Kind == sqltext.Quoted && inner == code {
			s.nested(t.Text, inner)
		}
		switch {
		case t.Is("set") || t.Is("reset") || t.Is("show"):
			next = s.assignment(next, t.Is("set") && begins)
		case t.Is("function") || t.Is("procedure") || t.Is("routine"):
			if s.how != data {
				inner = code
			}
		case begins && t.Is("prepare") && s.how == live && next.Name():
			s.prepared = next.Text
		case t.Is("execute") && next.Name():
			s.execute(next.Text)
		case t.Name() && t.Text == "set_config" && next.Punct('(') && !prev.Is("function"):
			s.setConfig()
		case t.Name() && t.Text == "current_setting" && next.Punct('('):
			if args := s.peek(); len(args) > 0 {
				if name, ok := constant(args[0]); ok {
					s.names.Add(name)
				}
			}
		}
		begins = t.Punct(';')
		prev, t = t, next
	}
}

// begin returns what the constants of a statement are that begins with t.
func (s *scan) begin(t sqltext.Token) how {
	s.prepared = ""
	if s.how == code || s.how == live && t.Is("do") {
		return code
	}
	return data
}

func (s *scan) nested(text string, h how) {
	if s.depth >= maxNesting || !s.names.worth([]byte(text)) {
		return
	}
	in := scan{names: s.names, Scanner: sqltext.Scanner{Src: text}, how: h, depth: s.depth + 1, budget: s.budget}
	in.run()
	s.budget = in.budget
	s.compute(in.computed)
}

func (s *scan) compute(why string) {
	if s.computed == "" && s.how != data {
		s.computed = why
	}
}

// assignment reads [SESSION|LOCAL] a.b ... and returns the token after it. In a part of a
// concatenated statement the name may be cut off.
func (s *scan) assignment(t sqltext.Token, begins bool) sqltext.Token {
	local := t.Is("local")
	if t.Is("session") || local {
		t = s.Next()
	}
	var parts []string
	open := true // a name is to follow
	for t.Name() {
		parts = append(parts, t.Text)
		t = s.Next()
		if open = t.Punct('.'); !open {
			break
		}
		t = s.Next()
	}
	s.names.Add(strings.Join(parts, ".")) // "a.b" in quotes names the same setting
	if begins && open && !local && s.how == code && (t.Kind == sqltext.End || t.Punct('%')) {
		s.compute("SET with a name that is computed")
	}
	return t
}

// setConfig records a call whose opening parenthesis has been read.
func (s *scan) setConfig() {
	args := s.peek()
	if len(args) == 0 {
		s.compute(computedCall)
		return
	}
	if name, ok := constant(args[0]); ok {
		s.names.Add(name)
		return
	}
	if len(args) > 2 && len(args[2]) == 1 && args[2][0].Is("true") {
		return // does not outlive its transaction
	}
	n, ok := param(args[0])
	switch {
	case ok && s.prepared != "":
		s.names.take(s.prepared, []int{n})
	case ok && s.params != nil:
		*s.params = lists.AddNew(*s.params, n)
	default:
		s.compute(computedCall)
	}
}

const computedCall = "set_config with a name that is computed"

// execute records an EXECUTE of a prepared statement whose name has been read.
func (s *scan) execute(statement string) {
	params := s.names.named[statement]
	if len(params) == 0 || s.how == data {
		return
	}
	ahead := s.Scanner
	var args [][]sqltext.Token
	if ahead.Next().Punct('(') {
		at := s.Scanner
		s.Scanner = ahead
		args = s.peek()
		s.Scanner = at
	}
	for _, i := range params {
		if i < len(args) {
			if name, ok := constant(args[i]); ok {
				s.names.Add(name)
				continue
			}
		}
		s.compute("EXECUTE with the name of a setting that is computed")
	}
}

// maxPeek is how many tokens of one argument are kept: more than a constant, its
// cast to a type with a schema, and one that shows that there is more.
const maxPeek = 8

// peek returns the arguments of a call whose opening parenthesis has been read, without moving the
// lexer; nothing if the text or the budget ends before the call does.
func (s *scan) peek() [][]sqltext.Token {
	l := s.Scanner
	defer func() { s.budget -= l.Pos - s.Pos }()
	args := [][]sqltext.Token{nil}
	depth := 1
	for {
		t := l.Next()
		if t.Kind == sqltext.End || l.Pos-s.Pos > s.budget {
			return nil
		}
		switch {
		case t.Punct('(') || t.Punct('['):
			depth++
		case t.Punct(')') || t.Punct(']'):
			depth--
		}
		switch last := len(args) - 1; {
		case depth == 0:
			return args
		case t.Punct(',') && depth == 1:
			args = append(args, nil)
		case len(args[last]) < maxPeek && last < maxArgs:
			args[last] = append(args[last], t)
		}
	}
}

// maxArgs is how many arguments are kept. An EXECUTE that gives the name of a setting in a later
// one counts as one that computes it.
const maxArgs = 64

// constant returns the value of an expression that is one string constant, perhaps with a cast.
func constant(arg []sqltext.Token) (string, bool) {
	if len(arg) == 0 || arg[0].Kind != sqltext.String || !arg[0].Plain || !cast(arg[1:]) {
		return "", false
	}
	return arg[0].Text, true
}

// param returns the position, from 0, of the one parameter that an expression is,
// perhaps with a cast.
func param(arg []sqltext.Token) (int, bool) {
	if len(arg) == 0 || arg[0].Kind != sqltext.Param || !cast(arg[1:]) {
		return 0, false
	}
	n, err := strconv.ParseUint(arg[0].Text, 10, 16)
	return int(n) - 1, err == nil && n > 0
}

func cast(list []sqltext.Token) bool {
	return len(list) < maxPeek-1 && !slices.ContainsFunc(list, func(t sqltext.Token) bool {
		return !t.Punct(':') && !t.Punct('.') && !t.Name()
	})
}
