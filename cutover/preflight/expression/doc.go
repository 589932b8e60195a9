// Package expression has the check of expressions that call functions and that the target evaluates
// over rows while these are moved: indexes, generated columns, constraints, keys of partitions, and
// the like.
//
// They are evaluated on the source for some rows as the target will, on a session of their own, in
// transactions that are read only, bounded in time, and rolled back. Nothing is executed but what
// the role of the check, or a superuser, has written: anyone else who would lend its rights to the
// owner of a function. What could not be tried is told as that and is never a blocker.
package expression
