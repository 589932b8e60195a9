// Package unconvertible looks through the rows of a table for those that cannot be written in the
// encoding of another database, and says of the first one where it is and how to correct it.
//
// The server converts, not we: what it takes is what a COPY of it will take.
package unconvertible
