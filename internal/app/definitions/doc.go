// Package definitions compares the definitions of both sides while a run follows: whether what pg_dump would write of the
// source is what the target has, or gets with the decision (C20), and whether the rows of a table may differ although its
// definition does not (C26). A digest of the catalogs says cheaply whether there is something to compare.
//
// Invariant: an answer under the fence is of definitions that were compared as they are; a comparison that began before
// the question answers nothing.
package definitions
