package machine

import (
	"fmt"
	"strings"
	"time"
)

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

// String says the state in one line, for logs and scripted tests.
func (s State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s/%v epoch=%d", s.Direction, s.Step, s.Phase, s.Epoch)
	for _, part := range []struct {
		said  bool
		name  string
		value any
	}{
		{s.Attempt != 0, "attempt", s.Attempt}, {s.Request.Mode != ModeCutover, "mode", s.Request.Mode},
		{s.Ending != EndNone, "ending", s.Ending}, {s.Held != 0, "held", s.Held},
		{s.Pending != 0, "pending", s.Pending}, {s.Todo != 0, "todo", s.Todo},
	} {
		if part.said {
			fmt.Fprintf(&b, " %s=%v", part.name, part.value)
		}
	}
	return b.String()
}

func (e PersistStep) String() string {
	return fmt.Sprintf("persist epoch=%d %s: %s -> %s bound=%v", e.Epoch, e.Direction, e.From, e.To, e.Bound)
}

func (e Call) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "call %v epoch=%d bound=%v", e.Op, e.Epoch, e.Bound)
	if e.To != "" {
		fmt.Fprintf(&b, " to=%s", e.To)
	}
	if e.Unmovable != "" && e.Unmovable != UnmovableAbort {
		fmt.Fprintf(&b, " unmovable=%s", e.Unmovable)
	}
	if e.Drain != 0 {
		fmt.Fprintf(&b, " drain=%v", e.Drain)
	}
	return b.String()
}

func (e StopCalls) String() string  { return "stop calls" }
func (e StartTimer) String() string { return fmt.Sprintf("timer %v after=%v", e.Timer, e.After) }
func (e Note) String() string       { return strings.TrimSpace("note " + e.Step + ": " + e.Detail) }
func (e Alarm) String() string      { return "alarm " + e.Detail }
func (e Answer) String() string {
	return strings.TrimSpace(fmt.Sprintf("answer %s %s", e.Outcome, e.Reason))
}
func (e Refuse) String() string { return "refuse " + e.Detail }
