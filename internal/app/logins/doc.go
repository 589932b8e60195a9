// Package logins says who may log in at the proxy, as whom at each side, and with which settings,
// and makes on the target the roles that this takes.
//
// Users is the proxy's auth.Store. It goes by the users file, by the role of --source, and by what
// the source has on its roles. Of these the target keeps what is needed once the source is gone:
// secrets, passwords of roles that the run has made, and the effective settings of each role (C3).
//
// Invariants:
//
//   - The operator's word goes first: --map-role, then the users file, then what the source says.
//   - While the source is the active side it is asked, at most once a second however many log in;
//     afterwards what the target has kept counts.
//   - A role that the run makes on the target has no more rights than it has on the source.
//   - Passwords of such roles are kept under a key that only anyone who has the secret of --target
//     can derive. No password stands in a log or an error.
//   - Whatever is changed of roles and of the database's owner can be undone from the journal by
//     crossfade clean.
package logins
