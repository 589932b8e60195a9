// Package matviews keeps the contents of the target's materialised views equal to the source's, for
// as long as no application reads them: the stream carries tables only.
//
// Invariant: a view of the target is never filled while its applications may read it.
package matviews
