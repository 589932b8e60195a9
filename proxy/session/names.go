package session

import (
	"bytes"
	"strings"
)

// maxNesting bounds how deep names are looked for in strings within strings. A
// DO body with a dynamic statement that calls set_config needs two levels.
const maxNesting = 4

// Names are the custom settings (names with a dot, such as app.tenant_id) that
// one session may have set. PostgreSQL lists them nowhere, it only answers when
// asked by name, so the names are picked out of the client's statements. The
// zero value is empty. Not safe for concurrent use.
type Names struct {
	known  map[string]struct{}
	opaque string
}

// maxNames bounds what one session can make the proxy remember. No application
// has as many settings; a session with more cannot be moved.
const maxNames = 1024

// Add remembers one name.
func (n *Names) Add(name string) {
	if !strings.Contains(name, ".") {
		return
	}
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 || name[i] < ' ' {
			n.Opaque("a custom setting whose name is not plain ASCII")
			return
		}
	}
	name = lowerASCII(name)
	if _, ok := n.known[name]; ok {
		return
	}
	if len(n.known) >= maxNames {
		n.Opaque("too many custom settings")
		return
	}
	if n.known == nil {
		n.known = map[string]struct{}{}
	}
	n.known[name] = struct{}{}
}

// Opaque marks the session as one whose custom settings cannot all be known.
func (n *Names) Opaque(why string) {
	if n.opaque == "" {
		n.opaque = why
	}
}

// OpaqueReason says why not all names are known, "" when they are.
func (n *Names) OpaqueReason() string { return n.opaque }

// List returns the names in no particular order.
func (n *Names) List() []string {
	list := make([]string, 0, len(n.known))
	for name := range n.known {
		list = append(list, name)
	}
	return list
}

// Statement learns from the text of a Query or Parse. It allocates nothing when
// the text does not contain "set" in any case.
func (n *Names) Statement(text []byte) {
	if !containsSet(text) {
		return
	}
	n.scan(string(text), true, 0)
}

// Definition learns from text that does not run now, such as the body of a
// function: what is computed there hides nothing of this session.
func (n *Names) Definition(text string) { n.scan(text, false, 0) }

func containsSet(text []byte) bool {
	for {
		i := bytes.IndexAny(text, "sS")
		if i < 0 || i+3 > len(text) {
			return false
		}
		if text[i+1]|0x20 == 'e' && text[i+2]|0x20 == 't' {
			return true
		}
		text = text[i+1:]
	}
}

// scan looks for SET a.b, set_config('a.b', current_setting('a.b' and RESET or
// SHOW a.b. It is liberal: a name too many costs one look, a name too few would
// lose a setting. runs says that the text is executed now, so that a name which
// is computed makes the session opaque.
func (n *Names) scan(text string, runs bool, depth int) {
	l := lexer{src: text}
	var prev token
	first := l.next()
	do := first.word("do")
	for t := first; t.kind != tokenEnd; {
		next := l.next()
		switch {
		case t.kind == tokenString:
			if depth < maxNesting && containsSet([]byte(t.text)) {
				n.scan(t.text, runs && do && t.dollar, depth+1)
			}
		case t.word("set") || t.word("reset") || t.word("show"):
			next = n.assignment(&l, next)
		case (t.word("set_config") || t.word("current_setting")) && next.other("(") && !prev.word("function"):
			next = n.call(&l, runs && t.word("set_config"), depth)
		}
		prev, t = t, next
	}
}

// assignment reads [SESSION|LOCAL] a.b ... and returns the token behind it.
func (n *Names) assignment(l *lexer, t token) token {
	if t.word("session") || t.word("local") {
		t = l.next()
	}
	var parts []string
	for t.name() {
		parts = append(parts, t.text)
		t = l.next()
		if !t.other(".") {
			break
		}
		t = l.next()
	}
	n.Add(strings.Join(parts, ".")) // "a.b" in quotes names the same setting
	return t
}

// call reads the arguments of set_config or current_setting behind the opening
// parenthesis and returns the token behind what it read.
func (n *Names) call(l *lexer, runs bool, depth int) token {
	t := l.next()
	literal := t.kind == tokenString && t.plain
	name := t.text
	if literal {
		n.Add(name)
		t = l.next()
		// A cast of the constant changes nothing: 'a.b'::text
		for t.other(":") || t.word("text") || t.word("varchar") || t.word("pg_catalog") || t.other(".") {
			t = l.next()
		}
		literal = t.other(",") || t.other(")")
	}
	if literal || !runs {
		return t
	}
	if !n.local(l, t, depth) {
		n.Opaque("set_config with a name that is computed or bound")
	}
	return token{kind: tokenOther, text: ")"}
}

// local reads on to the end of the call and reports whether its third argument
// is the constant true: such a setting does not outlive its transaction.
func (n *Names) local(l *lexer, t token, depth int) bool {
	parens, commas := 1, 0
	var third []token
	for ; t.kind != tokenEnd; t = l.next() {
		switch {
		case t.other("(") || t.other("["):
			parens++
		case t.other(")") || t.other("]"):
			parens--
		case t.other(",") && parens == 1:
			commas++
			continue
		}
		if parens == 0 {
			break
		}
		if t.kind == tokenString && depth < maxNesting {
			n.scan(t.text, false, depth+1)
		}
		if commas == 2 {
			third = append(third, t)
		}
	}
	return len(third) == 1 && third[0].word("true")
}
