// Package oneshot copies databases whose source goes on as it is: schema, data and sequences as one snapshot shows them,
// without a slot and without a trace on the source. Package migration does the work of one database.
//
// Invariant: a copy that was broken off is gone on with only under the same options, and is never told to be whole
// while something of it is missing.
package oneshot
