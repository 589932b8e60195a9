package machine

// Step is the machine: what has happened goes in, what is to be done comes out. It is a pure
// function: no clock, no goroutine, no input or output, and the same arguments always give the same
// results. Events that do not belong to the state, late ones above all, change nothing.
func Step(state State, event Event) (State, []Effect) {
	return Protocol.Step(state, event)
}

// Step is the machine with another order of an attempt. It hands the event to the part that knows
// what it means; all parts write to one transition, and call only those listed before them here.
func (sc Script) Step(s State, event Event) (State, []Effect) {
	t := &transition{State: s, script: sc}
	undo := undoing{t}
	attempt := attempt{t, undo}
	decision := decision{t, undo}
	results := results{t, undo, attempt, decision}
	operator := operator{t, undo, attempt}
	switch e := event.(type) {
	case Started:
		undo.started()
	case Requested:
		operator.requested(e)
	case Advanced:
		operator.advanced(e)
	case Stopped:
		operator.stopped()
	case Withdrawn:
		operator.withdrawn(e)
	case TimerFired:
		results.timer(e)
	case LockLost:
		locks{t}.lost(e)
	case LockWanted:
		locks{t}.wanted()
	case Tripped:
		decision.tripped(e)
	case Result:
		results.result(e)
	}
	return t.State, t.out
}
