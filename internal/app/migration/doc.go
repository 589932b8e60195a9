// Package migration takes a run from its start to the stream, and a one-shot copy to its end: the schema's archive, the
// slot, what rows need, the rows, what is built on them. It is driven by internal/app/daemon and internal/app/copyonce.
//
// A run goes through the phases of internal/base/journal. Each phase is recorded on the target when its work is done:
//
//	started → slotted → dumped → prepared → copied → indexed
//
// Invariants:
//
//   - Every piece of work can be begun again, so that a program that was killed goes on where it was.
//   - The archive, the catalog that goes with it and the rows are seen by one snapshot, that of the slot.
//   - What the target refuses ends a run, and is kept as a finding of a copy that goes on.
package migration
