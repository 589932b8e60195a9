// Package schema holds the packages that move a database's schema: they dump it, restore it on the
// target in parts, and tell whether two schemas have drifted apart.
//
// pg_dump is the authority on DDL. Its custom-format archive is parsed here, and each entry's own
// definition is executed; no statement is composed from the catalog except those that pg_dump does
// not write: foreign keys per partition, the kind of identity columns, VALIDATE and REFRESH, and what
// sets aside, and restores, what is on a side already.
//
//	catalog      a read-only model of a database's catalog
//	archive      runs pg_dump, reads its archive, and knows what a filter takes
//	finding      what is reported about an object: a finding, a change
//	roles        the source's roles, read, made and aligned on the target; names of roles in statements
//	plan         an archive in parts, each entry's definition as the target has to execute it, and the decision
//	fingerprint  whether two schemas are the same, or one of them has changed
//	changes      what the source has changed since its schema was restored
//	passive      makes a closed side not react to what the stream writes, and knows what restores it
//	restore      executes a plan, and what follows the decision
//
// Each imports only those above it in this list (internal/lab/arch says which). Tests that need the
// whole plane get a source and a target from pairtest.
package schema
