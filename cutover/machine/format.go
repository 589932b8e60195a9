package machine

import (
	"fmt"
	"strings"
)

// String says the state in one line, for logs and scripted tests.
func (s State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s/%v epoch=%d", s.Direction, s.Step, s.Phase, s.Epoch)
	if s.Attempt != 0 {
		fmt.Fprintf(&b, " attempt=%d", s.Attempt)
	}
	if s.Request.Mode != ModeCutover {
		fmt.Fprintf(&b, " mode=%v", s.Request.Mode)
	}
	if s.Ending != EndNone {
		fmt.Fprintf(&b, " ending=%v", s.Ending)
	}
	if s.Held != 0 {
		fmt.Fprintf(&b, " held=%v", s.Held)
	}
	if s.Pending != 0 {
		fmt.Fprintf(&b, " pending=%v", s.Pending)
	}
	if s.Todo != 0 {
		fmt.Fprintf(&b, " todo=%v", s.Todo)
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
