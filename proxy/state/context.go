package state

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/sqltext"
)

// parsing are the settings that affect how a statement is parsed: names are looked up by
// search_path and the role, constants of dates, money, arrays and the like become values, strings
// end where backslashes say so (PostgreSQL source, scan.l, gram.y, parse_expr.c and the input
// functions of types). The text of a statement means the same only under the same values.
var parsing = []string{
	"array_nulls",
	"backslash_quote",
	"datestyle",
	"intervalstyle",
	"lc_monetary",
	roleSetting,
	"search_path",
	"standard_conforming_strings",
	"timezone",
	"timezone_abbreviations",
	"transform_null_equals",
	"xmloption",
}

// roleSetting is the role, which PostgreSQL has as a setting that pg_settings does not list.
const roleSetting = "role"

// Context is what the client had made of the settings of parsing when a statement was
// parsed, as far as the wire shows it. What it does not name was as the session began.
// Immutable; nil is the beginning of a session.
type Context struct {
	values map[string]setTo // by name in lower case
}

// setTo is what a setting was set to.
type setTo struct {
	text  string
	reset bool // to what the session began with
}

// Contexts follows, from what a client sends, the settings that parsing reads, and
// remembers for each prepared statement those that it was parsed under. A session that
// never touches one of these settings costs nothing. What it cannot see (a setting made
// within a function) is found out by asking the server: see Link.Survey. The zero value
// is a session that has just begun. Not safe for concurrent use.
type Contexts struct {
	reported map[string]string // what the server itself tells, where the client has made it
	pending  map[string]setTo  // of those, what is on its way
	session  map[string]setTo  // the others
	local    map[string]setTo  // those of the transaction
	base     map[string]setTo  // session when the transaction began
	dirty    bool              // something was set since the last Settle
	failed   bool              // something was refused or rolled back since
	current  *Context          // nil: to be made of the above
	built    bool              // current is

	seen  []*Context        // the last that there were, oldest first
	made  map[string][]made // prepared statements by name, "" is the unnamed one
	sets  map[string][]setOp
	count int // of all in made that there ever were
}

// made is one Parse or PREPARE.
type made struct {
	under, or *Context // or: if what the client sets at the moment fails
	text      uint64   // hash, of a Parse; 0 for SQL
	stale     bool     // it may have been dropped since
	nth       int      // of all
}

// setOp is a setting that a statement makes when it is run.
type setOp struct {
	name  string
	value setTo
	param int // of the statement's parameters, whose value it is; -1 for none
	local bool
}

const (
	// maxMade and maxSeen bound what a client can make the proxy remember.
	maxMade = 10_000
	maxSeen = 32
	// maxMadeOfName: a name that was refused is kept together with the one before it.
	maxMadeOfName = 4
)

var textSeed = maphash.MakeSeed()

func hashText(text []byte) uint64 { return maphash.Bytes(textSeed, text) | 1 }

// begun reports that a setting of parsing was ever touched.
func (c *Contexts) begun() bool {
	return len(c.reported)+len(c.pending)+len(c.session)+len(c.local) > 0
}

// now is the context of a statement that is parsed at this moment.
func (c *Contexts) now() *Context {
	if !c.built {
		c.current, c.built = c.layered(c.session, c.local, c.pending), true
		c.remember(c.current)
	}
	return c.current
}

func (c *Contexts) layered(layers ...map[string]setTo) *Context {
	values := map[string]setTo{}
	for name, text := range c.reported {
		values[name] = setTo{text: text}
	}
	for _, l := range layers {
		maps.Copy(values, l)
	}
	if len(values) == 0 {
		return nil
	}
	return &Context{values}
}

func (c *Contexts) remember(ctx *Context) {
	if ctx == nil {
		return
	}
	for i, s := range c.seen {
		if maps.Equal(s.values, ctx.values) {
			c.seen = append(slices.Delete(c.seen, i, i+1), s)
			return
		}
	}
	if len(c.seen) == maxSeen {
		c.seen = slices.Delete(c.seen, 0, 1)
	}
	c.seen = append(c.seen, ctx)
}

// Reported is told the value of a setting that the server reports. It matters where
// the client has made it, or a rollback has unmade it.
func (c *Contexts) Reported(name, value string) {
	name = sqltext.Lower(name)
	if !slices.Contains(parsing, name) {
		return
	}
	lists.Put(&c.reported, name, value)
	delete(c.pending, name)
	delete(c.session, name)
	delete(c.local, name)
	c.built = false
}

// set takes note of a setting that the client makes.
func (c *Contexts) set(op setOp) {
	name := sqltext.Lower(op.name)
	if !slices.Contains(parsing, name) {
		return
	}
	layer := &c.session
	switch {
	case c.tells(name):
		layer = &c.pending
	case op.local:
		layer = &c.local
	default:
		delete(c.local, name)
	}
	if layer == &c.session {
		c.session = maps.Clone(c.session) // base may be the same
	}
	lists.Put(layer, name, op.value)
	c.dirty, c.built = true, false
}

// tells reports whether servers of every version report a setting when it changes.
func (c *Contexts) tells(name string) bool {
	switch name {
	case "datestyle", "intervalstyle", "timezone", "standard_conforming_strings":
		return true
	}
	_, ok := c.reported[name]
	return ok
}

// resetAll is RESET ALL, or DISCARD ALL. The role stays at a RESET ALL.
func (c *Contexts) resetAll(role bool) {
	for _, name := range parsing {
		if name == roleSetting && !role {
			continue
		}
		if _, ok := c.reported[name]; ok {
			continue // the server will say
		}
		for _, layer := range []map[string]setTo{c.session, c.local, c.pending} {
			if _, ok := layer[name]; ok {
				c.set(setOp{name: name, value: setTo{reset: true}})
				break
			}
		}
	}
}

// Dirty reports whether Settle has anything to do.
func (c *Contexts) Dirty() bool { return c.dirty }

// Settle is called when no transaction is open and nothing is on its way.
func (c *Contexts) Settle() {
	if c.failed {
		c.session = c.base
	}
	c.base, c.local, c.pending = c.session, nil, nil
	c.dirty, c.failed, c.built = false, false, false
}

// Refused is told of an error of the server.
func (c *Contexts) Refused() { c.failed = c.dirty }

// Tag is told the tag of a command that has ended.
func (c *Contexts) Tag(tag string) {
	switch tag {
	case "ROLLBACK":
		c.failed = c.dirty
	case "DISCARD ALL", "DEALLOCATE", "DEALLOCATE ALL":
		if tag == "DISCARD ALL" {
			c.resetAll(true)
		}
		for _, list := range c.made {
			for i := range list {
				list[i].stale = true
			}
		}
	}
}

// Actual is told what the settings are at a boundary, of a state that was captured.
func (c *Contexts) Actual(s *State) {
	c.Settle()
	for _, name := range []string{roleSetting, "search_path"} {
		v, ok := s.valueOf(name)
		if !ok {
			continue
		}
		is, touched := c.session[name]
		if is.reset || !touched {
			is.text = s.resetOf(name)
		}
		if normal(name, is.text) != normal(name, v) {
			c.session = maps.Clone(c.session)
			lists.Put(&c.session, name, setTo{text: v})
			c.base, c.built = c.session, false
			c.now()
		}
	}
}

// parsed notes a Parse, or a PREPARE with no hash, at this moment.
func (c *Contexts) parsed(name string, text uint64) {
	list := c.made[name]
	if len(list) == 0 && !c.begun() {
		return
	}
	m := made{under: c.now(), text: text}
	if c.dirty {
		m.or = c.layered(c.base)
		c.remember(m.or)
	}
	if name == "" || len(list) > 0 && list[len(list)-1].stale {
		list = list[:0]
	}
	if len(list) == maxMadeOfName {
		list = slices.Delete(list, 0, 1)
	}
	if len(list) == 0 && len(c.made) >= maxMade {
		return
	}
	c.count++
	m.nth = c.count
	lists.Put(&c.made, name, append(list, m))
}

// closed notes that a prepared statement is closed.
func (c *Contexts) closed(name string) {
	delete(c.made, name)
	delete(c.sets, name)
}

// Candidates are the contexts that a prepared statement may have been parsed under,
// the likeliest first. nil is one of them: the beginning of the session.
func (c *Contexts) Candidates(st Statement) []*Context {
	var list []*Context
	add := func(ctx *Context) { list = lists.AddNew(list, ctx) }
	hash := hashText([]byte(st.Text))
	for _, m := range c.made[st.Name] {
		// Text that is not ASCII may have come in another encoding.
		if (m.text == 0) == st.FromSQL && (st.FromSQL || m.text == hash || !ASCII(st.Text)) {
			add(m.under)
			if m.or != nil {
				add(m.or)
			}
		}
	}
	if len(list) == 0 {
		add(nil)
	}
	for _, ctx := range slices.Backward(c.seen) {
		add(ctx)
	}
	return list
}

// Times tells one Parse or PREPARE of a name from an earlier one.
func (c *Contexts) Times(name string) int {
	list := c.made[name]
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].nth
}

// normal is the value of a setting as names in lists are written by the server.
func normal(name, value string) string {
	if name == "search_path" {
		return strings.ReplaceAll(value, `"`, "")
	}
	return value
}
