// Package oneshot copies databases whose source stays in use: schema, data and sequences as one
// snapshot shows them, without a slot and without a trace on the source. Package migration does the
// work of one database.
//
// Invariant: an interrupted copy is continued only under the same options, and is never reported as
// complete while something of it is missing.
package oneshot
