// Package largeobject copies large objects from one database to another: their numbers, bytes,
// owners, privileges and comments.
//
// # Protocol
//
// The metadata is read in pages of ascending OIDs, the bytes by lo_get, in transactions that end
// with each page and use the copy's snapshot. On the target one transaction writes a few objects
// with everything that belongs to them, and a row for each in crossfade.large_object.
//
// # Invariants
//
//   - An object is on the target as a whole, with its record, or not at all; so a copy that was
//     killed continues after what it did.
//   - An object keeps its OID. One that is on the target under that number and is not ours is never
//     touched: the copy ends with ErrTaken.
//   - Memory is bounded by the size of a piece and of a group, not by the size of the objects.
//   - Logical decoding carries no large objects (PostgreSQL documentation 31.6): what is written to
//     one after the snapshot is not followed. A Measure taken with the copy shows whether anything
//     was.
//
// Security labels of large objects are not carried.
package largeobject
