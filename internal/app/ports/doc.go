// Package ports implements the interfaces that package cutover declares: Journal, Traffic, Source,
// Target, Replication (Following) and Verification, over sessions to both databases, the proxy and
// the stream of changes. The composition root makes them and passes them to the coordinator.
// Nothing here decides.
//
// Invariants:
//
//   - An error of a database is translated into the coordinator's errors (portError): a lost race
//     for the journal's row is cutover.ErrConflict, a lock that was not granted
//     cutover.ErrLockTimeout, and a commit whose answer was lost cutover.ErrOutcomeUnknown.
//   - Fence and Decide are one transaction each, in the session of the pre-lock where there is one.
//   - Every lock request is bounded, and a session that falls silent in a transaction is ended by
//     its server.
package ports
