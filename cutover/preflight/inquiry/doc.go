// Package inquiry is the base of every check of a preflight: the two sessions, the options, and the
// queries that checks share.
//
// Pair holds everything that a check may use. The package has no checks itself, so that the
// packages of checks share nothing but this: the options, what patterns include (Scope), the rights
// of a session's role, and the parts of queries that select the user's own objects. Queries are
// read only, and name nothing outside pg_catalog, which is the only schema in the search path of
// our sessions.
package inquiry
