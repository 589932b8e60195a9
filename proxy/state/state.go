package state

// State is what a session carries, as one capture saw it. Text is in the
// encoding of the server's database. A State is not changed once it is made.
type State struct {
	BackendPID     int32  // pg_backend_pid(), which need not be the pid of BackendKeyData
	ServerEncoding string // of the database
	Login          string // role that the proxy logged in as
	SessionUser    string // differs from Login after SET SESSION AUTHORIZATION
	Role           string // "none" unless SET ROLE

	Settings   map[string]Setting // by name: set by the session or its client, and all of Pinned
	Custom     map[string]string  // custom settings that have a value, by name in lower case
	Statements map[string]Statement
	Unnamed    *Statement // nil: there is none
	// Late are statements that the client has and that cannot be parsed at present: they
	// are parsed when they are first used. "" is the unnamed one.
	Late     map[string]Statement
	Channels map[string]struct{} // LISTEN
	Locks    map[Lock]struct{}   // session-level advisory locks

	HeldCursors []string // names of cursors WITH HOLD
	TempObjects []string // names of temporary objects, some of them when there are many
	Dblink      int64    // named connections of dblink that are open
	FDW         int64    // servers that postgres_fdw is connected to

	// What the capture cannot see; filled in by the owner of the session.
	Opaque    string // why not all custom settings are known, "" when they are
	Declared  bool   // the operator has named those that are not
	Inserted  bool   // the last command was an INSERT
	Backends  bool   // the client has named backends by their numbers
	UnknownPS bool   // the unnamed statement was too large to be remembered
}

// Setting is one row of pg_settings.
type Setting struct {
	Value   string // in the setting's base unit; set_config takes it back as it is
	Reset   string // value that RESET and DISCARD ALL go back to
	Source  string // "session", "client", "default" ...
	Context string // "user", "superuser" ...
}

// SetBySession reports whether SET or set_config made the value.
func (s Setting) SetBySession() bool { return s.Source == "session" }

// Statement is a prepared statement.
type Statement struct {
	Name    string
	Text    string // of the Parse; for SQL the whole query string that contained PREPARE
	FromSQL bool
	Types   []Type // of its parameters

	// Under are the values of the settings that it was parsed under, by name in lower case; nil if
	// that has not been asked (Survey).
	Under map[string]string
	// Shape is what it takes and returns on the server that it was captured on, nil if that has not
	// been asked.
	Shape *Shape
}

// Type is a data type, by the name that means the same on both sides.
type Type struct {
	OID          uint32 // on the server that the statement was captured at
	Schema, Name string // both empty when it no longer exists
}

// firstUserOID is where OIDs begin that differ from server to server
// (FirstNormalObjectId of PostgreSQL).
const firstUserOID = 16384

// Lock is an advisory lock that the session holds. How often it holds it is not visible to anyone.
type Lock struct {
	Class, Object uint32
	Sub           int16 // 1: one bigint key, 2: two int keys
	Shared        bool
}

// valueOf returns what a setting of parsing is, by its name in lower case.
func (s *State) valueOf(name string) (string, bool) {
	if name == roleSetting {
		return s.Role, true
	}
	v, ok := s.Settings[serverName(name)]
	return v.Value, ok
}

// resetOf returns what a setting of parsing was as the session began.
func (s *State) resetOf(name string) string {
	if name == roleSetting {
		return "none"
	}
	return s.Settings[serverName(name)].Reset
}

// serverName is a setting of parsing as pg_settings writes it.
func serverName(name string) string {
	switch name {
	case "datestyle":
		return "DateStyle"
	case "intervalstyle":
		return "IntervalStyle"
	case "timezone":
		return "TimeZone"
	}
	return name
}

// under returns the values that the settings of parsing have in a context.
func (s *State) under(ctx *Context) map[string]string {
	values := map[string]string{}
	for _, name := range parsing {
		now, known := s.valueOf(name)
		if !known {
			continue
		}
		value := s.resetOf(name)
		if ctx != nil {
			if v, ok := ctx.values[name]; ok && !v.reset {
				value = v.text
			}
		}
		if normal(name, value) == normal(name, now) {
			value = now
		}
		values[name] = value
	}
	return values
}

// present are the values that the settings of parsing have now.
func (s *State) present() map[string]string {
	values := map[string]string{}
	for _, name := range parsing {
		if v, ok := s.valueOf(name); ok {
			values[name] = v
		}
	}
	return values
}

// locals are the assignments, for the length of a transaction, that give a session as
// state says the values of under. Those of names come first: the role may be one that
// may not look at what the path names.
func (s *State) locals(under map[string]string, role func(string) string) []assignment {
	var list []assignment
	for _, name := range parsing {
		value, ok := under[name]
		now, known := s.valueOf(name)
		if !ok || !known || value == now {
			continue
		}
		if name == roleSetting {
			value = translate(role, value)
		}
		list = append(list, assignment{name: name, value: value})
	}
	return list
}

// Mirror is a state that was captured where want was replayed, with what a capture
// there does not show: the unnamed statement, and what statements were parsed under.
func (s *State) Mirror(want *State) *State {
	mirror := *s
	mirror.Unnamed = want.Unnamed
	mirror.Statements = make(map[string]Statement, len(s.Statements))
	for name, st := range s.Statements {
		if w, ok := want.Statements[name]; ok {
			st.Under = w.Under
		}
		mirror.Statements[name] = st
	}
	return &mirror
}
