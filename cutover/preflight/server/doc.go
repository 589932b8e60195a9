// Package server has the checks of the two servers: how they are reached, their versions, what of
// their limited things a migration takes, and who else replicates or holds a transaction there.
//
// Each check is a function over inquiry.Pair that reads settings and statistics and changes
// nothing. Two of them do more than read: Replication opens a walsender session and closes it
// again, and Room writes some pages to the target in a transaction that is rolled back. What a
// server is asked is asked of either side by the same query.
package server
