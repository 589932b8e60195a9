// Package inquiry is what every check of a preflight stands on: the two sessions, what is asked
// for, and how a question is put to a side.
//
// Pair holds all that a check may look at. It has no checks itself, so that the rooms of checks
// share nothing but what stands here: the options, what patterns take along (Scope), the rights of
// a session's role, and the parts of queries that keep to what is the user's own. Queries are read
// only, and name nothing that is not in pg_catalog, which our sessions have alone in their search
// path.
package inquiry
