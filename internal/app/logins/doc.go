// Package logins decides which roles may log in through the proxy, as which role on each side and
// with which settings, and makes the roles on the target that this needs.
//
// Users is the proxy's auth.Store. It uses the users file, the role of --source, and what the
// source stores about its roles. The target keeps the part of this that is needed once the source
// is gone: secrets, passwords of roles that the run has made, and the effective settings of each
// role (C3).
//
// Invariants:
//
//   - The operator's options take precedence: --map-role, then the users file, then what the source
//     says.
//   - While the source is the active side it is asked, at most once a second no matter how many
//     clients log in; after a switch what the target has kept counts.
//   - A role that the run makes on the target has no more rights than it has on the source.
//   - Passwords of such roles are kept under a key that only a holder of the secret of --target can
//     derive. No password is written to a log or an error.
//   - Whatever is changed of roles and of the database's owner can be undone from the journal by
//     crossfade clean.
package logins
