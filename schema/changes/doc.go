// Package changes holds a newer archive of the source against the one that was restored (Continued,
// Compare): what is still to come is taken from the newer one, and what the target has been given
// already and has otherwise is a Change, with the statement for the target where it can be told.
//
// Invariants:
//
//   - An entry keeps its number in every newer archive, so that crossfade.item stays true.
//   - What the target has as the source has it is no change, no matter who made it so.
//   - What depends on others is dropped before them, and made after them.
package changes
