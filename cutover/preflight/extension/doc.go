// Package extension has the checks of extensions: whether the target can have those that the source
// uses, in which version and schema, what happens to rows that users keep in their tables, and
// which of them act by themselves.
//
// Each check is a function over inquiry.Pair that reads the catalogs and changes nothing. An
// extension is identified by its name alone: none of its code is run.
package extension
