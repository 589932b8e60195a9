// Package compare has both sides compared when an operator asks for it: tables row by row, sequences
// and definitions; while one side follows the other (Job), and at rest (AtRest).
//
// A Job's comparison is a round. What it finds of each table is written to the journal at once, so
// that a round that was interrupted, by an operator, a cutover, an error or a kill, is continued by
// the next request; one that has become too old is begun again. Nothing is written to either database
// otherwise.
//
// Invariants:
//
//   - A table is reported as different or not provable only if it was so in two pairs of snapshots,
//     one after the other.
//   - While one side follows, the position of a sequence on it means nothing: the decision sets it to
//     that of the other side. What would keep it from that is reported: a sequence that is not there,
//     or that cannot be read. At rest, a sequence that would hand out a number again is reported.
//   - A Job gives way to a cutover (Stop), and asks nothing of the applications' side beyond one session
//     that reads a fifteenth of the time, a second one that keeps the snapshot, and a slot for an instant.
package compare
