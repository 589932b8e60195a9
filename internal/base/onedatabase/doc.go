// Package onedatabase finds out whether two connections lead to one database, before anything is
// written or dropped: by what the servers do, never by the text of two connection strings (rule
// C24).
//
//   - A lock that one session takes under a random number is held for the other one, or is not.
//     System identifiers do not tell: a copy of a cluster's files has the same one.
//   - A standby is refused as the target. If the source is in recovery and may be the target's
//     standby, a mark is put into the target's catalog for a moment and searched for in what the
//     source has replayed.
//   - Neither lock nor mark remains.
package onedatabase
