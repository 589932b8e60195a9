// Package database has the checks of the two databases: whether one can be moved into the other,
// how they encode and sort text, and which of the source's objects are not carried over unchanged.
//
// Each check is a function over inquiry.Pair that reads the catalogs and changes nothing. The
// bounds of partitions are tried on the target in a transaction that is rolled back. Package
// extension checks what belongs to extensions, and package privilege the rights of the roles.
package database
