// Package changes compares a newer archive of the source with the one that was restored (Continued,
// Compare): what has yet to be restored is taken from the newer one, and anything restored already
// that differs is a Change, with the statement for the target if there is one.
//
// Invariants:
//
//   - An entry keeps its number in every newer archive, so that crossfade.item stays valid.
//   - What is the same on the target as on the source is no change, no matter who made it so.
//   - What depends on others is dropped before them, and made after them.
package changes
