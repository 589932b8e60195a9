// Package watch asks both databases, for as long as a run follows, what has changed since the copy
// that would make a cutover lose something or fail, and what the run costs its source.
//
// A Watcher is one question. The List asks the watchers in rounds for the status, once more while a
// cutover is armed, and those marked for it once more under the fence. What a watcher finds is a
// Notice: a reason to refuse a cutover, or a warning. Packages above this one add watchers of their
// own.
//
// Invariants:
//
//   - A question without an answer is not an answer: a cutover is refused until there is one, and
//     one that has become too old counts as none.
//   - A change that was reverted is still a change: rows of the catalog are compared by their
//     identity, not only by their contents at the end (C26).
//   - No question makes a statement of an application wait longer than the bound on our locks, and
//     a scan of rows is followed by a pause many times as long as the scan (C13).
//   - One cause is reported once, by the first watcher in the list.
package watch
