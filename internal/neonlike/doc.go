// Package neonlike makes a plain PostgreSQL cluster behave towards its clients
// as a Neon compute does, so that the demo and the tests need no account.
//
// What is the same: the settings that a compute starts with, the bootstrap
// superuser cloud_admin that nobody else may use, the role neon_superuser with
// what it may and may not do, a role as the console makes it, and a database
// that this role owns.
//
// # Invariants
//
//   - The role that Prepare hands out is no superuser and cannot become one. It
//     may not set session_replication_role, use replication origins, disable
//     the triggers of foreign keys or read the server's files.
//   - It has REPLICATION and BYPASSRLS as attributes of its own, which
//     membership in neon_superuser would not give it.
//   - Detection by the setting neon.endpoint_id works as on Neon.
//
// # Where it differs
//
// Neon lets members of neon_superuser do a few things that plain PostgreSQL
// refuses: publications FOR ALL TABLES, event triggers, and many extensions
// that are marked as trusted there. Neon also refuses what plain PostgreSQL
// allows: tablespaces by another message, and passwords that were hashed by the
// client or are too weak. A test must not take these for Neon's behaviour.
package neonlike
