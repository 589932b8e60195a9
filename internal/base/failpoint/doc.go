// Package failpoint lets a test stop or fail the program at a named point.
//
// A point is one call of Here or Err with a constant name, for example
// failpoint.Here("copy.chunk"). Without the build tag "failpoint" both calls do nothing and cost
// nothing. With the tag, the environment variable CROSSFADE_FAILPOINT arms points:
//
//	name=kill      SIGKILL to this process at the first pass
//	name=kill@3    SIGKILL to this process at the third pass
//	name=error     every pass of Err returns an error that is ErrInjected
//	name=error@2   only the second pass of Err returns it
//
// Several points are separated by commas. Passes are counted per name, over Here and Err together.
// Here cannot return an error, so a point armed with "error" has no effect there. A value that
// cannot be read ends the program at start-up with a message: a fault test that injects nothing
// would pass for the wrong reason.
//
// # Invariants
//
//   - The kill is SIGKILL: no deferred function, no signal handler and no flush runs, as when the
//     machine fails.
//   - A production build contains no way to arm a point.
package failpoint
