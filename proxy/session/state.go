package session

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
	Unnamed    *Statement          // nil: there is none
	Channels   map[string]struct{} // LISTEN
	Locks      map[Lock]struct{}   // session-level advisory locks

	HeldCursors []string // names of cursors WITH HOLD
	TempObjects []string // names of temporary objects, some of them when there are many
	Dblink      int64    // named connections of dblink that are open
	FDW         int64    // servers that postgres_fdw is connected to

	// What the capture cannot see; filled in by the owner of the session.
	Opaque    string // why not all custom settings are known, "" when they are
	Declared  bool   // the operator has named those that are not
	Inserted  bool   // the last command was an INSERT
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
	Text    string // of the Parse; for SQL the whole query string that PREPARE stood in
	FromSQL bool
	Types   []Type // of its parameters
}

// Type is a data type, by the name that means the same on both sides.
type Type struct {
	OID          uint32 // on the server that the statement was captured at
	Schema, Name string // both empty when it exists no more
}

// firstUserOID is where OIDs begin that differ from server to server
// (FirstNormalObjectId of PostgreSQL).
const firstUserOID = 16384

// Lock is an advisory lock that the session holds. How often it holds it is not
// visible to anyone.
type Lock struct {
	Class, Object uint32
	Sub           int16 // 1: one bigint key, 2: two int keys
	Shared        bool
}
