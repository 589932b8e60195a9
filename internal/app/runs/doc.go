// Package runs says which run or copy two databases hold, begins one, and lets one process at a
// time lead it.
//
// An Identity is what the journals of both sides say about a run. LeftOver words it: how far the
// run is, which process works on it, and which command continues or removes it. The Leader keeps
// the lock by which a process leads a source.
//
// Invariants:
//
//   - Databases whose journals do not belong together are refused before anything is written, and
//     so is a source that is not the cluster with which the run began: its log positions would mean
//     something else.
//   - The target's journal is made first. A run that exists only on the target, in its first phase,
//     is an interrupted start, and the next start completes it.
//   - Safety does not depend on the leader's lock, but on compare-and-sets: a lock is lost with its
//     session, and a leader that lost it takes it again unless another process has had it for
//     LedPatience.
package runs
