package control

import "context"

// Daemon is what the server serves. Its methods are called from many goroutines; Cutover and Finish
// one at a time. Errors that are an *Error reach the client unchanged, others with the code
// internal, so they must contain no secret.
type Daemon interface {
	// Status answers from memory: it is asked several times a second.
	Status(ctx context.Context) (Status, error)
	Sessions(ctx context.Context) ([]Session, error)
	// Cutover returns a report for every attempt, aborted ones too, and an error if none was made.
	// The end of ctx withdraws it, with ctx's cause as the reason: it is undone if it can be, and
	// Cutover returns when it has ended. show is called with each step as it happens, from any
	// goroutine, and does not block.
	Cutover(ctx context.Context, opt CutoverOptions, show func(Event)) (CutoverReport, error)
	Finish(ctx context.Context, opt FinishOptions) (FinishReport, error)
	// Limits sets what c names, nothing if that is nothing, and returns what holds.
	Limits(ctx context.Context, c LimitsChange) (Limits, error)
}
