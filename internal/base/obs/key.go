package obs

// Names of log fields. Every package uses these and makes up no synonyms.
const (
	KeyAttempt    = "attempt"    // number of an attempt, from 1
	KeyComponent  = "component"  // part of the program that speaks
	KeyDatabase   = "database"   // name of a database
	KeyEndpoint   = "endpoint"   // "source" or "target"
	KeyEpoch      = "epoch"      // number of an attempt to change sides
	KeyError      = "error"      // what an error said; zerolog writes it by Err
	KeyLSN        = "lsn"        // a WAL position, as text
	KeyPID        = "pid"        // pg_backend_pid() of a server
	KeyRelation   = "relation"   // schema-qualified name of a table
	KeySession    = "session"    // number of a session in the proxy
	KeyState      = "state"      // state that was entered
	KeySuppressed = "suppressed" // repeated lines that were kept back
	KeyUser       = "user"       // name of a role
)
