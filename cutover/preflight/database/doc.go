// Package database has the checks of the two databases: whether they are a pair that can be moved
// from the one into the other, how texts are written and sort in them, and what of the source's
// objects is not carried over as it is.
//
// Each check is a function over inquiry.Pair that reads the catalogs and changes nothing. The
// bounds of partitions are tried on the target in a transaction that is rolled back. What belongs
// to extensions is left to package extension, and who may do what to package privilege.
package database
