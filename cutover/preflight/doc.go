// Package preflight examines a source and a target before anything is changed, and reports what
// would stop or harm a migration.
//
// It is the list of checks, and runs them. The checks themselves are in packages below it, by their
// subject: server, database, extension, expression, privilege, loginrole. These import inquiry, for
// the questions, and answer, for the results, and not each other.
//
// # Findings are not errors
//
// A Finding is something that was found: a blocker refuses the migration, a warning names a loss or
// a risk that the operator accepts, an info says what to expect. An error of a check means that the
// check could not be completed, so that nothing is known. Report keeps the two apart: it is ready
// only when every check was completed and none found a blocker.
//
// # Invariants
//
//   - Checks read the catalogs and change nothing, on either side. The probe for replication opens
//     a walsender session and closes it again; the probes for disk space and for the bounds of
//     partitions write to the target and roll back.
//   - Every blocker and warning has a remedy that can be typed.
//   - Codes are stable: scripts rely on them. An object is named as schema.name; statements in
//     remedies quote names.
//   - Crossfade's own objects (the schema, publication and slots that begin with its name) and
//     objects of an extension are never a finding, except that a run that was left over is named.
//   - A check has CheckTimeout. Checks run one after the other, since they share two connections.
package preflight
