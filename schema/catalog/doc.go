// Package catalog reads a database's catalog into a model that never changes afterwards. It writes
// nothing.
//
// One call reads everything in one repeatable-read transaction, with a query per kind of object, on
// PostgreSQL 12 to 18. Inside it the search_path is empty, so that every name is found in
// pg_catalog and every printed name is qualified.
//
// Left out everywhere are system schemas, temporary objects, members of extensions (except
// configuration tables whose rows are the user's, which are listed separately), the schemas that
// Neon adds, and what Crossfade itself made: the schema and publication crossfade and the triggers
// zz_crossfade_fence.
//
// A table is safe for binary COPY only if every type that its moved columns are made of, down
// through domains, arrays, composites and ranges, has a binary form with the same meaning in
// another database. If in doubt, it is not.
package catalog
