package state

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/sqltext"
)

// Plan is the difference between two states as steps, in the order in which a
// replay must take them. It is bound to no connection.
type Plan struct {
	early    []assignment // settings that the login role may set and another perhaps not
	settings []assignment
	late     []assignment // settings that could end or bend the replay itself
	drop     []string     // names of prepared statements
	prepare  []Statement
	unlock   []Lock
	unlisten []string
	listen   []string
	lock     []Lock

	locals       map[string][]assignment // under which a statement is prepared, by its name
	unnamed      *Statement              // the unnamed statement that the replay ends with
	clearUnnamed bool                    // the replay ends with no unnamed statement

	encoding string // to be set ahead of everything, "" where all text is ASCII
}

// assignment sets one setting, or resets it.
type assignment struct {
	name  string
	value string
	reset bool
}

// Empty reports whether there is nothing to do.
func (p *Plan) Empty() bool {
	return len(p.early)+len(p.settings)+len(p.late)+len(p.drop)+len(p.prepare)+
		len(p.unlock)+len(p.unlisten)+len(p.listen)+len(p.lock) == 0 && p.unnamed == nil && !p.clearUnnamed
}

// Diff returns what turns a server session that is as have says into one that is
// as want says. role translates names of roles from want's side to have's.
func Diff(want, have *State, scope Scope, role func(string) string) *Plan {
	p := &Plan{}
	if scope&Own != 0 {
		p.diffSettings(want, have, translate(role, want.Role))
		p.diffStatements(want, have, role)
	}
	if scope&Shared != 0 {
		p.unlock, p.lock = setDiff(want.Locks, have.Locks)
		p.unlisten, p.listen = setDiff(want.Channels, have.Channels)
		slices.Sort(p.unlisten)
		slices.Sort(p.listen)
	}
	p.recode(have)
	return p
}

// recode has text that is not ASCII replayed in the encoding of the database,
// which is what a State holds, and gives the session's own encoding back.
func (p *Plan) recode(have *State) {
	now := have.Settings["client_encoding"]
	if now.Value == have.ServerEncoding || !p.wide() {
		return
	}
	p.encoding = have.ServerEncoding
	if slices.ContainsFunc(p.late, func(a assignment) bool { return a.name == "client_encoding" }) {
		return
	}
	p.late = append(p.late, assignment{name: "client_encoding", value: now.Value, reset: !now.SetBySession()})
}

// wide reports whether any text of the plan is not ASCII.
func (p *Plan) wide() bool {
	assignments := slices.Concat(p.early, p.settings, p.late, slices.Concat(slices.Collect(maps.Values(p.locals))...))
	names := slices.Concat(p.drop, p.listen, p.unlisten)
	return p.unnamed != nil && p.unnamed.wide() || slices.ContainsFunc(p.prepare, Statement.wide) ||
		slices.ContainsFunc(assignments, func(a assignment) bool { return !ASCII(a.name + a.value) }) ||
		slices.ContainsFunc(names, func(name string) bool { return !ASCII(name) })
}

func (s Statement) wide() bool {
	return !ASCII(s.Name+s.Text) || slices.ContainsFunc(s.Types, func(t Type) bool { return !ASCII(t.Schema + t.Name) })
}

func ASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// Released returns the part of a plan that gives back what other sessions may
// want, and the rest. Of many sessions all of the first come before any of the second.
func (p *Plan) Released() (release, rest *Plan) {
	release = &Plan{unlock: p.unlock, unlisten: p.unlisten}
	left := *p
	left.unlock, left.unlisten = nil, nil
	return release, &left
}

func setDiff[K comparable](want, have map[K]struct{}) (remove, add []K) {
	for k := range have {
		if _, ok := want[k]; !ok {
			remove = append(remove, k)
		}
	}
	for k := range want {
		if _, ok := have[k]; !ok {
			add = append(add, k)
		}
	}
	return remove, add
}

func (p *Plan) diffSettings(want, have *State, role string) {
	if have.Role != role {
		if have.Role != "none" {
			p.early = append(p.early, assignment{name: "role", reset: false, value: "none"})
		}
		if role != "none" {
			p.settings = append(p.settings, assignment{name: "role", value: role})
		}
	}
	set := func(name, context string, a assignment) {
		switch {
		case late(name):
			p.late = append(p.late, a)
		case context != "user":
			p.early = append(p.early, a)
		default:
			p.settings = append(p.settings, a)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.Settings)) {
		w := want.Settings[name]
		h, known := have.Settings[name]
		switch {
		case ignorable(name, want), retired[name] && !known:
		case custom(name) && !known && w.SetBySession():
			if v, ok := have.Custom[sqltext.Lower(name)]; !ok || v != w.Value {
				set(name, w.Context, assignment{name: name, value: w.Value})
			}
		case w.SetBySession() && (h.Value != w.Value || !h.SetBySession()):
			set(name, w.Context, assignment{name: name, value: w.Value})
		case !w.SetBySession() && h.SetBySession():
			set(name, w.Context, assignment{name: name, reset: true})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Settings)) {
		if _, ok := want.Settings[name]; !ok && have.Settings[name].SetBySession() {
			set(name, have.Settings[name].Context, assignment{name: name, reset: true})
		}
	}
	if w, h := want.Settings["client_encoding"], have.Settings["client_encoding"]; !w.SetBySession() && w.Value != h.Value && w.Value != "" {
		// The encoding may not reach a server behind another proxy at start-up.
		p.late = append(p.late, assignment{name: "client_encoding", value: w.Value})
	}
	for _, name := range slices.Sorted(maps.Keys(want.Custom)) {
		if _, library := want.Settings[name]; library {
			continue
		}
		if h, ok := have.Custom[name]; !ok || h != want.Custom[name] {
			p.settings = append(p.settings, assignment{name: name, value: want.Custom[name]})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Custom)) {
		if onlyThere(want, have, name) {
			p.settings = append(p.settings, assignment{name: name, value: ""})
		}
	}
}

func (p *Plan) diffStatements(want, have *State, role func(string) string) {
	for _, name := range slices.Sorted(maps.Keys(have.Statements)) {
		if w, ok := want.Statements[name]; !ok || !sameStatement(w, have.Statements[name]) {
			p.drop = append(p.drop, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.Statements)) {
		if h, ok := have.Statements[name]; !ok || !sameStatement(want.Statements[name], h) {
			p.prepare = append(p.prepare, want.Statements[name])
			p.under(want, want.Statements[name], role)
		}
	}
	switch {
	case want.Unnamed == nil:
		p.clearUnnamed = have.Unnamed != nil
	case have.Unnamed == nil || !sameStatement(*want.Unnamed, *have.Unnamed):
		p.unnamed = want.Unnamed
		p.under(want, *want.Unnamed, role)
	}
}

// under notes the settings under which a statement is prepared, where they are not
// those of the session.
func (p *Plan) under(want *State, s Statement, role func(string) string) {
	if list := want.locals(s.Under, role); len(list) > 0 {
		lists.Put(&p.locals, s.Name, list)
	}
}
