// Package definitions compares the definitions of both sides while a run follows: whether what
// pg_dump would write for the source is what the target has, or gets with the decision (C20), and
// whether the rows of a table may differ although its definition does not (C26). A digest of the
// catalogs cheaply tells whether a comparison is needed.
//
// Invariant: an answer under the fence is about the definitions as they are at that moment; a
// comparison that began before the question does not count.
package definitions
