// Package migration takes a run from its start to the stream, and a one-shot copy to its end: the
// schema's archive, the slot, what rows need, the rows, what is built on them. It is driven by
// internal/app/daemon and internal/app/oneshot.
//
// A run goes through the phases of internal/base/journal. Each phase is recorded on the target when
// its work is done:
//
//	started → slotted → dumped → prepared → copied → indexed
//
// Invariants:
//
//   - Every piece of work can be repeated, so that a program that was killed continues where it
//     was.
//   - The archive, the catalog that goes with it and the rows are seen by one snapshot, that of the
//     slot.
//   - What the target refuses ends a run; a copy continues and keeps it as a finding.
package migration
