// Package roles reads the roles of the source, makes those that the target lacks, aligns those that
// have changed, and maps the names of roles in statements.
//
// Invariants:
//
//   - Align changes only roles that a migration has made itself.
//   - A role that is made has no more rights than it has on the source. What the target refuses is
//     a finding, and stops nothing.
//   - Roles of a hosting platform are neither made nor granted anything.
//   - In a statement only the names of roles are changed.
package roles
