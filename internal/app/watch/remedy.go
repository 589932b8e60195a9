package watch

// Remedies that several watchers have.
const (
	// StartOver is the remedy for changes that the target will never get.
	StartOver = "start over: stop crossfade run, crossfade clean, crossfade run"
	// GoOnRun is the remedy for what a run reads only when it starts.
	GoOnRun = "stop crossfade run and start it again"
)
