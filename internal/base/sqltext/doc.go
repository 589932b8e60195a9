// Package sqltext cuts SQL text into tokens as PostgreSQL's scanner does (documentation 4.1,
// source: src/backend/parser/scan.l): words, names in double quotes, strings of every form,
// parameters, numbers, and single bytes of punctuation. White space and comments, which nest, are
// not tokens.
//
// It is the only reader of SQL text in the program: code that has to know where a statement ends,
// or what a name in it is, uses this package.
//
// Split cuts it into statements, which can be asked about their tokens; Shape is the part of a
// statement that may be written to a log.
//
// It accepts any bytes and never fails: an unterminated token ends with the text, and a byte that
// belongs to no token is punctuation. Where a string ends depends on standard_conforming_strings,
// which the caller knows and the text does not say (Scanner.Escapes). It does not know BEGIN
// ATOMIC, nor what psql does to a text.
package sqltext
