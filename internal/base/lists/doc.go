// Package lists makes one list, or a set, of another.
//
// A list of nothing is nil, as one that append has not touched: whether it is written as null to
// JSON or to SQL is the caller's to decide.
package lists
