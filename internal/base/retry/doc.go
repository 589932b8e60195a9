// Package retry repeats an operation that may fail for a passing reason, such
// as a connection that a restart of the server cut.
//
// # Rules
//
//   - Whether an error may be retried is decided where it arises: there it is
//     marked with Permanent. Do retries everything else.
//   - Every loop is bounded, by the context, by Policy.MaxElapsed or by
//     Policy.MaxAttempts; what ends it is in the error, together with the last
//     error of the operation.
//   - The pause between two attempts grows from Policy.Initial to Policy.Max.
//     A random half of it is taken away (equal jitter), so that many sessions
//     that lost the same server do not come back in one instant.
//   - Do logs nothing. Policy.OnRetry is called before each pause; Limited
//     makes of it a callback that speaks at most once a minute and says how
//     many failures it kept to itself.
//   - Sessions is the one loop that connects again: its pauses begin again after a session
//     that was of use, and the bounds hold for those in between that were not.
//   - Sleep, Every and Poll are the waits for time alone. Every one ends with its context; whoever
//     waits for something else as well selects by hand.
package retry
