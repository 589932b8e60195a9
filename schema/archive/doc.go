// Package archive runs pg_dump and reads the table of contents of the custom-format archive that it
// writes. Data blocks are not read.
//
// Invariants:
//
//   - Parse takes no more memory than a small multiple of the archive's size and never panics.
//   - pg_dump decides which objects a Filter includes. Rows are left out by the same expressions,
//     evaluated by the server with the search path that pg_dump has.
//   - A password is in no command line, and in no error.
//   - Crossfade's own schema is in no archive.
package archive
