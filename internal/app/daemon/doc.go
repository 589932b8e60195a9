// Package daemon puts the rooms together: with the rooms of internal/app below
// it, which have one job each, it is the one place that knows the proxy, the
// replication, the schema plane and the cutover at once. It fills the ports
// that cutover declares.
//
// A run goes through the phases of internal/base/journal. Each phase is recorded on
// the target when its work is done, and every piece of work can be begun again,
// so that a daemon that was killed goes on where it was:
//
//	started → slotted → dumped → prepared → copied → indexed → (following) → switched → valid → finished
//
// Invariants:
//
//   - The listener is bound before either database is touched, so that a port
//     in use leaves nothing behind.
//   - One process leads a source at a time (journal.Lead on its control
//     session); safety does not rest on it, but on compare-and-sets.
//   - The proxy lets no client through before the journal has said which side
//     is active.
//   - What a failed start made on either side is removed again, unless a run
//     was there before.
package daemon
