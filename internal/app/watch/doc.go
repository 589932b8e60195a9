// Package watch asks both databases, for as long as a run follows, what may have changed since the copy so that a
// cutover would lose something or fail, and what the run costs its source.
//
// A Watcher is one question. The List asks the watchers in rounds for the status, once more while a cutover is
// armed, and those that are marked so under the fence. What a watcher finds is a Notice: a reason to refuse a
// cutover, or a warning. Some questions are asked by packages above this one, which hand in their own watchers.
//
// Invariants:
//
//   - A question without an answer is not an answer: a cutover is refused until there is one, and one that has
//     become too old counts as none.
//   - What was changed and changed back is a change all the same: rows of the catalog are compared by their
//     identity, not only by what they say at the end (C26).
//   - Nothing that is asked makes a statement of an application wait for longer than the bound on our locks, and a
//     look through rows rests for many times as long as it took (C13).
//   - One cause is told once, by the watcher that stands first.
package watch
