// Package expression checks expressions that call functions and that the target evaluates over rows
// while these are moved: indexes, generated columns, constraints, keys of partitions, and the like.
//
// They are evaluated on the source for some rows as the target will do it, on a separate session,
// in transactions that are read only, bounded in time, and rolled back. Only code that the role of
// the check, or a superuser, has written is executed: code of other owners would run with the
// rights of the role that checks. Expressions that could not be tried are reported as such and are
// never a blocker.
package expression
