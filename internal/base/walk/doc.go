// Package walk steps over the fields of a message that came from outside.
//
// # Invariants
//
//   - No step panics or takes memory, whatever the bytes are: what a step returns is a part of them.
//   - The first step beyond the end makes a walk bad, and every further step returns zero: one look at
//     Bad at the end suffices wherever no bound depends on what was read.
package walk
