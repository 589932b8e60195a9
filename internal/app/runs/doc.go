// Package runs says which run or copy two databases hold, begins one, and lets one process at a time lead it.
//
// An Identity is what the journals of both sides say of a run. LeftOver puts it into words: how far the run is, who
// works on it, and what goes on with it or removes it. The Leader keeps the lock by which a process leads a source.
//
// Invariants:
//
//   - Databases whose journals do not belong together are refused before anything is written, as is a source that is
//     another cluster than the one that the run began with: its log positions would mean something else.
//   - The target's journal is made first. A run that stands on the target alone, in its first phase, is a start that
//     was cut short, and the next start finishes it.
//   - Safety does not rest on the leader's lock, but on compare-and-sets: a lock is lost with its session, and a
//     leader that lost it takes it again unless another process has had it for LedPatience.
package runs
