// Package undo takes back what a run or a copy has made, without a daemon: Clean removes it from
// both databases, and Recover opens a source that an attempt has left closed.
//
// Invariant: a source whose target was decided to be the active side is opened only with --force.
package undo
