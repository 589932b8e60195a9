package machine

import "time"

// Effect is what the machine asks for. The set is closed. Effects are performed in their order;
// calls and records then run concurrently, and end in a Result.
type Effect interface{ effect() }

// Timer names a timer. One of each runs at a time; a new one replaces it.
type Timer uint8

const (
	TimerPhase Timer = iota // the bound or the back-off of the current phase
	TimerPause              // --max-pause
)

func (t Timer) String() string { return [...]string{"phase", "pause"}[t] }

type (
	// PersistStep records a step on the journal's row by compare-and-set. It ends in Done or Failed
	// of OpRecord. No effect that belongs to the step is asked for before it ended in Done.
	PersistStep struct {
		Gen       uint64
		Epoch     int64
		Direction Direction
		From, To  StepName
		Bound     time.Duration
	}

	// Call asks for a port's method, bounded.
	Call struct {
		Op        Op
		Gen       uint64
		Epoch     int64
		Direction Direction
		Bound     time.Duration
		To        Side          // of OpSwitch
		Drain     time.Duration // of OpPause, and of OpStage where it waits
		Unmovable Unmovable     // of OpStage
	}

	// StopCalls cancels the calls and records of every earlier generation. Their results will be
	// late.
	StopCalls struct{ Before uint64 }

	// StartTimer asks for a TimerFired of this generation.
	StartTimer struct {
		Timer Timer
		Gen   uint64
		After time.Duration
	}

	// Note adds a line to the timeline.
	Note struct {
		Step   string
		Detail string
	}

	// Alarm tells the operator about what must not be.
	Alarm struct{ Detail string }

	// Answer ends a request.
	Answer struct {
		ID      uint64
		Outcome Outcome
		Reason  string
	}

	// Refuse ends a request that was not begun.
	Refuse struct {
		ID uint64
		Obstacle
	}
)

func (PersistStep) effect() {}
func (Call) effect()        {}
func (StopCalls) effect()   {}
func (StartTimer) effect()  {}
func (Note) effect()        {}
func (Alarm) effect()       {}
func (Answer) effect()      {}
func (Refuse) effect()      {}
