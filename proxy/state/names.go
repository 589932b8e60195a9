package state

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/sqltext"
)

// Names are the custom settings (names with a dot, such as app.tenant_id) that
// one session may have set. PostgreSQL lists them nowhere, it only answers when
// asked by name, so the names are picked out of the client's statements and of
// the values that it binds. The zero value is empty. Not safe for concurrent use.
type Names struct {
	known  map[string]struct{}
	opaque string

	// Prepared statements that take the name of a setting as a parameter, and which parameters,
	// counted from 0. The server alone knows whether a Parse that was sent replaced the statement
	// of that name, so what an earlier one took is kept; for the unnamed statement until Current.
	named   map[string][]int
	unnamed []int
}

const (
	// maxNames bounds what one session can make the proxy remember. No application
	// has as many settings; a session with more cannot be moved.
	maxNames = 1024
	// maxNamed bounds the prepared statements that take names, for the same reason.
	maxNamed = 1024
)

// Add remembers one name.
func (n *Names) Add(name string) {
	if !strings.Contains(name, ".") {
		return
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf || r < ' ' }) {
		n.Opaque("a custom setting whose name is not plain ASCII")
		return
	}
	name = sqltext.Lower(name)
	if _, ok := n.known[name]; ok {
		return
	}
	if len(n.known) >= maxNames {
		n.Opaque("too many custom settings")
		return
	}
	lists.Put(&n.known, name, struct{}{})
}

// Opaque marks the session as one whose custom settings cannot all be known.
func (n *Names) Opaque(why string) {
	n.opaque = cmp.Or(n.opaque, why)
}

// OpaqueReason says why not all names are known, "" when they are.
func (n *Names) OpaqueReason() string { return n.opaque }

// List returns the names in no particular order.
func (n *Names) List() []string {
	return slices.AppendSeq(make([]string, 0, len(n.known)), maps.Keys(n.known))
}

// statement learns from the text of a Query; set says whether it contains "set". It allocates
// nothing when the text contains neither that nor, where that matters, "execute", in any case.
func (n *Names) statement(text []byte, set bool) {
	if set || n.executes(text) {
		n.learn(string(text), nil)
	}
}

// worth reports whether a text can tell anything.
func (n *Names) worth(text []byte) bool { return containsSet(text) || n.executes(text) }

func (n *Names) executes(text []byte) bool {
	return len(n.named) > 0 && containsFold(text, "execute")
}

// parse learns from the text of a Parse, as statement does, and remembers which parameters of the
// prepared statement are names.
func (n *Names) parse(name, text []byte, set bool) {
	if !set && !n.executes(text) {
		return
	}
	var params []int
	n.learn(string(text), &params)
	switch {
	case len(params) == 0:
	case len(name) == 0:
		n.unnamed = lists.AddNew(n.unnamed, params...)
	default:
		n.take(string(name), params)
	}
}

func (n *Names) learn(text string, params *[]int) {
	s := scan{names: n, Scanner: sqltext.Scanner{Src: text}, how: live, params: params, budget: peekBudget(text)}
	s.run()
	if s.computed != "" {
		n.Opaque(s.computed)
	}
}

// take remembers that these parameters of a prepared statement are names.
func (n *Names) take(statement string, params []int) {
	if _, ok := n.named[statement]; !ok && len(n.named) >= maxNamed {
		n.Opaque("too many prepared statements that take the name of a setting")
		return
	}
	lists.Put(&n.named, statement, lists.AddNew(n.named[statement], params...))
}

// Current is told the unnamed statement that the server has: the body of its
// Parse, or nil for none. No other Parse of one may be on its way.
func (n *Names) Current(parse []byte) {
	if len(n.unnamed) == 0 {
		return
	}
	n.unnamed = nil
	if name, text, ok := cutParse(parse); ok {
		n.parse(name, text, containsSet(text))
	}
}

// binds reports whether any prepared statement takes a name.
func (n *Names) binds() bool { return len(n.named) > 0 || len(n.unnamed) > 0 }

// params are the parameters of a prepared statement that are names.
func (n *Names) params(statement []byte) []int {
	if len(statement) == 0 {
		return n.unnamed
	}
	return n.named[string(statement)]
}

// Definition learns from the definition of a function, a view and the like. It
// says why not all names that it may set can be known, "" when they are.
func (n *Names) Definition(text string) (computed string) {
	s := scan{names: n, Scanner: sqltext.Scanner{Src: text}, how: live, budget: peekBudget(text)}
	s.run()
	return s.computed
}

// cutParse splits the body of a Parse into name and text.
func cutParse(body []byte) (name, text []byte, ok bool) {
	name, text, ok = bytes.Cut(body, []byte{0})
	text, _, _ = bytes.Cut(text, []byte{0})
	return name, text, ok
}

// containsSet searches for "set" in any case. Every statement passes here, so it examines only each
// third byte if that is none of the three letters.
func containsSet(text []byte) bool {
	for i := 2; i < len(text); {
		switch text[i] | 0x20 {
		case 't':
			if text[i-1]|0x20 == 'e' && text[i-2]|0x20 == 's' {
				return true
			}
			i += 3
		case 'e':
			i++
		case 's':
			i += 2
		default:
			i += 3
		}
	}
	return false
}

// containsFold looks for a word of lower case letters in any case.
func containsFold(text []byte, word string) bool {
	for i := 0; i+len(word) <= len(text); i++ {
		j := 0
		for j < len(word) && text[i+j]|0x20 == word[j] {
			j++
		}
		if j == len(word) {
			return true
		}
	}
	return false
}
