package machine

// Record is the journal's row of a run, as far as the machine needs it.
type Record struct {
	Epoch     int64
	Direction Direction
	Step      StepName
}
