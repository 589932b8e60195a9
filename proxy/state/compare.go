package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"crossfade/internal/base/sqltext"
)

// Scope says which parts of two states are compared or made equal.
type Scope int

const (
	// Own is what belongs to the session alone: settings, role, statements.
	Own Scope = 1 << iota
	// Shared is what other sessions can feel: LISTEN and advisory locks. On the
	// other side it is taken in the pause only, when the source's is frozen.
	Shared
	// Everything is both.
	Everything = Own | Shared
)

// Compare returns how have, on the server of a replay, differs from want, by
// name and never by value; nothing means that have is a mirror of want. role
// translates names of roles from want's side to have's; nil keeps them.
func Compare(want, have *State, scope Scope, role func(string) string) []string {
	var d []string
	differ := func(format string, args ...any) { d = append(d, fmt.Sprintf(format, args...)) }
	if scope&Own != 0 {
		if !strings.EqualFold(want.ServerEncoding, have.ServerEncoding) {
			differ("encoding of the database: %s here, %s there", want.ServerEncoding, have.ServerEncoding)
		}
		if translate(role, want.Role) != have.Role {
			differ("role")
		}
		d = append(d, compareSettings(want, have)...)
		d = append(d, compareStatements(want, have)...)
	}
	if scope&Shared != 0 {
		if !maps.Equal(want.Channels, have.Channels) {
			differ("channels of LISTEN")
		}
		if !maps.Equal(want.Locks, have.Locks) {
			differ("advisory locks")
		}
	}
	return d
}

func compareSettings(want, have *State) []string {
	var d []string
	for _, name := range slices.Sorted(maps.Keys(want.Settings)) {
		w := want.Settings[name]
		h, ok := have.Settings[name]
		switch {
		case ignorable(name, want), retired[name] && !(ok && w.SetBySession()):
		case !ok && custom(name):
			// A setting of a library that the other side has not loaded yet.
			if v, set := have.Custom[sqltext.Lower(name)]; !set || v != w.Value {
				d = append(d, "setting "+name)
			}
		case !ok && w.Source != "client" && !w.SetBySession():
			// One that the other side's version does not know, and that was never set.
		case !ok || h.Value != w.Value:
			d = append(d, "setting "+name)
		case carriesReset(name, w) && name != "client_encoding" && h.Reset != w.Reset && !(w.SetBySession() && !slices.Contains(Pinned, name)):
			d = append(d, "value that RESET gives "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Settings)) {
		if _, ok := want.Settings[name]; !ok && have.Settings[name].SetBySession() && name != "client_encoding" {
			d = append(d, "setting "+name+", which only one side has")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want.Custom)) {
		if _, library := want.Settings[name]; library {
			continue // in its base unit above
		}
		if h, ok := have.Custom[name]; !ok || h != want.Custom[name] {
			d = append(d, "setting "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Custom)) {
		// A setting that was set and is empty now cannot be distinguished, by its value, from one
		// that was never set.
		if onlyThere(want, have, name) {
			d = append(d, "setting "+name+", which only one side has")
		}
	}
	return d
}

// onlyThere reports that a custom setting has a value in have alone.
func onlyThere(want, have *State, name string) bool {
	_, set := want.Custom[name]
	_, library := want.Settings[name]
	return !set && !library && have.Custom[name] != ""
}

func compareStatements(want, have *State) []string {
	var d []string
	for _, name := range slices.Sorted(maps.Keys(want.Statements)) {
		h, ok := have.Statements[name]
		if !ok || !sameStatement(want.Statements[name], h) {
			d = append(d, fmt.Sprintf("prepared statement %q", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have.Statements)) {
		if _, ok := want.Statements[name]; !ok {
			d = append(d, fmt.Sprintf("prepared statement %q, which only one side has", name))
		}
	}
	if (want.Unnamed == nil) != (have.Unnamed == nil) || want.Unnamed != nil && !sameStatement(*want.Unnamed, *have.Unnamed) {
		d = append(d, "unnamed prepared statement")
	}
	return d
}

// sameStatement compares by meaning: a statement made by SQL has another text
// once it was rebuilt, and rebuilds to itself from then on.
// What it was parsed under is compared where both sides know it.
func sameStatement(a, b Statement) bool {
	if a.FromSQL != b.FromSQL || len(a.Types) != len(b.Types) {
		return false
	}
	if a.Under != nil && b.Under != nil && !maps.Equal(a.Under, b.Under) {
		return false
	}
	for i, t := range a.Types {
		if !sameType(t, b.Types[i]) {
			return false
		}
	}
	if !a.FromSQL || a.Text == b.Text {
		return a.Text == b.Text
	}
	ra, errA := RebuildPrepare(a)
	rb, errB := RebuildPrepare(b)
	return errA == nil && errB == nil && ra == rb
}

// sameType compares by name where the type has one, since OIDs of users' types
// differ from server to server.
func sameType(a, b Type) bool {
	if a.Name == "" && b.Name == "" {
		return a.OID == b.OID
	}
	return a.Schema == b.Schema && a.Name == b.Name
}

func translate(role func(string) string, name string) string {
	if role == nil || name == "none" {
		return name
	}
	return role(name)
}
