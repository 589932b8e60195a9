// Package sequence carries the positions of sequences from one database to the other. Logical
// decoding does not: nextval writes WAL that pgoutput ignores.
//
// Invariants:
//
//   - Read never guesses. last_value reads NULL both for a sequence that was never used and for one
//     that may not be read, so each NULL is examined; a missing right is an error that names the
//     sequence.
//   - The position of a sequence that was never used is carried too: setval(s, 42, false) makes 42
//     the next value on the other side.
//   - Set never moves a used sequence backwards, in the direction of its own increment. Setting the
//     same state twice changes nothing.
//   - setval is not transactional: a caller that rolls back leaves the other side's sequences
//     ahead, which costs numbers and repeats none.
package sequence
