// Package fingerprint finds out whether two schemas are the same, and whether one has changed: a
// Fingerprint compares two sides, a Digest says whether there is anything to compare, and a
// RowIdentity shows what the definitions do not: that rows may have changed although the definition
// of the columns is the same.
//
// Invariants:
//
//   - A digest covers every catalog that pg_dump reads and no temporary object: two equal digests
//     mean that pg_dump would write the same.
//   - A fingerprint compares what reads the same on every version; expressions as a server prints
//     them only between servers of one major version.
//   - The objects that Crossfade makes are in neither.
package fingerprint
