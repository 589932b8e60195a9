// Package unconvertible searches a table for rows that cannot be written in the encoding of another
// database, and says where the first one is and how to correct it.
//
// The server converts, not we: what it accepts is what a COPY of it will accept.
package unconvertible
