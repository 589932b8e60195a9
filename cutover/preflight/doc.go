// Package preflight looks at a source and a target before anything is changed, and says what would
// stop or harm a migration.
//
// It is the list of checks, and who asks them. The checks themselves stand in rooms below it, by
// what they look at: server, database, extension, expression, privilege, loginrole. These know
// inquiry, which is what is asked of whom, and answer, which is what comes of it, and not each
// other.
//
// # Findings are not errors
//
// A Finding is something that was seen: a blocker refuses the migration, a warning names a loss or
// a risk that the operator takes, an info says what to expect. An error of a check means that the
// check could not be completed, and so that nothing is known. Report keeps the two apart: it is
// ready only when every check was completed and none found a blocker.
//
// # Invariants
//
//   - Checks read the catalogs and change nothing, on either side. The probe for replication opens
//     a walsender session and closes it again; the probes for room and for the bounds of partitions
//     write to the target and roll back.
//   - Every blocker and warning has a remedy that can be typed.
//   - Codes are stable: scripts rely on them. An object is named as schema.name; statements in
//     remedies quote names.
//   - What is Crossfade's own (the schema, publication and slots that begin with its name) and what
//     belongs to an extension is never a finding, except that a run left over by someone is named.
//   - A check has CheckTimeout. Checks run one after the other, since they share two connections.
package preflight
