// Package cutover decides. It moves a run from one active side to the other, or leaves it where it
// was, and never ends in between.
//
// The next step comes from cutover/machine, a pure function from a state and an event to a state
// and effects. Coordinator performs the effects through ports, each call within its bound, and
// returns the results to the machine as events. The ports (Journal, Traffic, Source, Target,
// Replication, Verification) are declared here as the machine needs them, and implemented by the
// program; this package imports no other domain.
//
// One goroutine, that of Run, owns the state. Ports are called from other goroutines: the calls of
// one lane (lane.go) one at a time, the lanes concurrently.
package cutover
