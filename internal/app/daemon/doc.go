// Package daemon is the composition root of a run: together with the other packages of
// internal/app, each of which does one thing, it is the only code that knows the proxy, the
// replication, the schema plane and the cutover. It implements the ports that cutover declares.
//
// A run goes through the phases of internal/base/journal. Each phase is recorded on the target when
// its work is done, and every piece of work can be repeated, so that a daemon that was killed
// continues where it was:
//
//	started → slotted → dumped → prepared → copied → indexed → (following) → switched → valid → finished
//
// Invariants:
//
//   - The listener is bound before either database is touched, so that a port in use leaves nothing
//     to clean up.
//   - One process leads a source at a time (journal.Lead on its control session); safety does not
//     depend on that, but on compare-and-sets.
//   - The proxy admits no client before the journal has been read and says which side is active.
//   - What a failed start made on either side is removed again, unless a run was there before.
package daemon
