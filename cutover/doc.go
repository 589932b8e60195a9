// Package cutover decides. It moves a run from one active side to the other, or leaves it where it was, and never ends
// in between.
//
// What is to be done next is said by cutover/machine, a pure function from a state and an event to a state and effects.
// Coordinator performs the effects through ports, each call with its bound, and feeds what comes of them back as
// events. The ports (Journal, Traffic, Source, Target, Replication, Verification) are declared here by what the machine
// needs, and filled by the program; this package imports no other domain.
//
// One goroutine, Run's, owns the state. Ports are called from others: those of one lane (lane.go) one at a time, and
// the rest side by side.
package cutover
