// Package sqltext cuts SQL text into tokens as PostgreSQL's scanner does
// (documentation 4.1, source: src/backend/parser/scan.l): words, names in double
// quotes, strings of every form, parameters, numbers, and single bytes of
// punctuation. White space and comments, which nest, are no tokens.
//
// It is the only reader of SQL text in the program: what has to know where a
// statement ends, or what a name in it is, asks here.
//
// Split cuts it into statements, which answer what their tokens say; Shape is what of a statement may
// stand in a log.
//
// It takes any bytes and never fails: what is not terminated ends with the text, and a
// byte that belongs to nothing is punctuation. Where a string ends depends on
// standard_conforming_strings, which the caller knows and the text does not say
// (Scanner.Escapes). It does not know BEGIN ATOMIC, nor what psql does to a text.
package sqltext
