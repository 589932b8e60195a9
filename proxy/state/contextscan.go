package state

import (
	"bytes"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/sqltext"
	"crossfade/internal/base/walk"
)

// query learns from the text of a Query, each of whose statements is run now. set says
// whether it contains "set".
func (c *Contexts) query(text []byte, set bool) {
	if set || prepares(text) {
		scan := contextScan{Scanner: sqltext.Scanner{Src: string(text), Escapes: c.escapes()}, to: c, run: c.set}
		scan.statements()
	}
}

// parse learns from a Parse: what its statement sets is set by a Bind.
func (c *Contexts) parse(name, text []byte, set bool) {
	if c.begun() || len(c.made) > 0 {
		c.parsed(string(name), hashText(text))
	}
	if len(c.sets) > 0 {
		delete(c.sets, string(name))
	}
	if !set && !prepares(text) {
		return
	}
	var ops []setOp
	scan := contextScan{Scanner: sqltext.Scanner{Src: string(text), Escapes: c.escapes()}, to: c, run: func(op setOp) { ops = append(ops, op) }}
	scan.statements()
	if len(ops) > 0 && len(c.sets) < maxNamed {
		lists.Put(&c.sets, string(name), ops)
	}
}

// binds reports whether any statement sets anything that matters.
func (c *Contexts) binds() bool { return len(c.sets) > 0 }

// bind learns from the body of a Bind whose end may be missing.
func (c *Contexts) bind(body []byte) {
	head := walk.Bytes{Rest: body}
	head.Text() // the portal
	statement := head.Text()
	if head.Bad {
		return
	}
	for _, op := range c.sets[string(statement)] {
		if op.param >= 0 {
			v := head
			v.Take(2 * v.Count()) // formats
			value, ok := nth(&v, op.param)
			if !ok {
				continue
			}
			op.value = setTo{text: string(value), reset: value == nil}
		}
		c.set(op)
	}
}

// nth returns the value at a position, from 0.
func nth(v *walk.Bytes, n int) (value []byte, ok bool) {
	count := v.Count()
	for i := 0; i < count && !v.Bad; i++ {
		if value, _ = v.Value(); i == n {
			return value, !v.Bad
		}
	}
	return nil, false
}

// escapes reports whether standard_conforming_strings is off.
func (c *Contexts) escapes() bool {
	ctx := c.now()
	return ctx != nil && strings.EqualFold(ctx.values["standard_conforming_strings"].text, "off")
}

// prepares reports whether a text may have a PREPARE, which begins a statement. It is
// made for texts that have none.
func prepares(text []byte) bool {
	for len(text) > 0 && (text[0] == ' ' || text[0] >= '\t' && text[0] <= '\r') {
		text = text[1:]
	}
	if len(text) == 0 {
		return false
	}
	switch c := text[0]; {
	case c|0x20 == 'p', c == '-', c == '/', c == ';':
	default:
		if i := bytes.IndexByte(text, ';'); i < 0 || i == len(text)-1 {
			return false
		}
	}
	return containsFold(text, "prepare")
}

// contextScan finds what a text does to the settings of parsing, and the statements that it
// prepares, in order.
type contextScan struct {
	sqltext.Scanner
	to  *Contexts
	run func(setOp)
}

func (s *contextScan) statements() {
	for {
		t := s.Next()
		switch {
		case t.Kind == sqltext.End:
			return
		case t.Is("set"):
			t = s.set()
		case t.Is("reset"):
			t = s.reset()
		case t.Is("prepare"):
			if t = s.Next(); t.Name() && !t.Is("transaction") {
				s.to.parsed(t.Text, 0)
			}
		}
		for t.Kind != sqltext.End && !t.Punct(';') {
			if t.Name() && t.Text == "set_config" {
				s.call()
			}
			t = s.Next()
		}
		if t.Kind == sqltext.End {
			return
		}
	}
}

// set reads what follows SET, and returns the token after that.
func (s *contextScan) set() sqltext.Token {
	op := setOp{param: -1}
	t := s.Next()
	if op.local = t.Is("local"); op.local || t.Is("session") {
		t = s.Next()
	}
	switch {
	case t.Is("authorization"), t.Is("characteristics"), !t.Name():
		return t
	case t.Is("time"):
		if t = s.Next(); !t.Is("zone") {
			return t
		}
		op.name = "timezone"
	case t.Is("schema"):
		op.name = "search_path"
	case t.Is(roleSetting):
		op.name = roleSetting
	default:
		op.name = t.Text
		if t = s.Next(); !t.Punct('=') && !t.Is("to") {
			return t
		}
	}
	first, known := s.Next(), true
	t = first
	var parts []string
	for ; t.Kind != sqltext.End && !t.Punct(';'); t = s.Next() {
		switch {
		case t.Punct(','):
		case t.Kind == sqltext.String && t.Plain, t.Name():
			parts = append(parts, listed(op.name, t.Text))
		case t.Kind == sqltext.Number:
			parts = append(parts, s.Src[t.Start:t.End])
		default:
			known = false // a sign, an escape, an INTERVAL
		}
	}
	op.value.text = strings.Join(parts, ", ")
	switch {
	case first.Is("default"), op.name == "timezone" && first.Is("local"):
		op.value = setTo{reset: true}
	case !known || len(parts) == 0 || first.Is("interval"):
		return t // the server reports it, or Survey finds it
	case first.Is("none") && op.name == roleSetting:
		op.value.text = "none"
	}
	s.run(op)
	return t
}

// listed is one value of a SET as the server keeps it: names of schemas are quoted
// where they must be.
func listed(setting, text string) string {
	if sqltext.Lower(setting) != "search_path" || plainName(text) {
		return text
	}
	return pg.QuoteIdent(text)
}

func plainName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c == '_' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}

// reset reads what follows RESET.
func (s *contextScan) reset() sqltext.Token {
	t := s.Next()
	name := t.Text
	switch {
	case t.Is("all"):
		s.to.resetAll(false)
		return s.Next()
	case t.Is("time"):
		name = "timezone"
	case !t.Name():
		return t
	}
	s.run(setOp{name: name, value: setTo{reset: true}, param: -1})
	return s.Next()
}

// call reads a call of set_config; its name has been read already.
func (s *contextScan) call() {
	at := s.Scanner
	if !s.Next().Punct('(') {
		s.Scanner = at
		return
	}
	names := scan{Scanner: s.Scanner, budget: peekBudget(s.Src)}
	args := names.peek()
	if len(args) < 3 {
		return
	}
	name, ok := constant(args[0])
	if !ok {
		return
	}
	op := setOp{name: name, param: -1, local: len(args[2]) > 0 && (args[2][0].Is("true") || args[2][0].Kind == sqltext.String && strings.HasPrefix(args[2][0].Text, "t"))}
	if text, ok := constant(args[1]); ok {
		op.value.text = text
	} else if n, ok := param(args[1]); ok {
		op.param = n
	} else {
		return
	}
	s.run(op)
}
