// Package server has the checks of the two servers: how they are reached, their versions, which of
// their limited resources a migration takes, and what else replicates or holds a transaction there.
//
// Each check is a function over inquiry.Pair that reads settings and statistics and changes
// nothing. Two of them do more than read: Replication opens a walsender session and closes it
// again, and DiskSpace writes some pages to the target in a transaction that is rolled back. Both
// sides are asked with the same query.
package server
