package ports

import (
	"slices"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/lists"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// Completion is what of the work after the decision could not be done: it is tried
// again by itself, and until it is done `finish` refuses. It is safe for concurrent use.
type Completion struct {
	Log zerolog.Logger

	mu    sync.Mutex
	left  []control.Blocker
	waits string // what a statement waits for, "" for nothing
	tries int    // of that statement
}

// Set keeps what is left, and tells what is new of it.
func (c *Completion) Set(left []control.Blocker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range left {
		if !slices.Contains(c.left, b) {
			c.Log.Error().Str("code", b.Code).Str("detail", b.Detail).Str("remedy", b.Remedy).Msg("work after the switch is refused by the target; it is tried again")
		}
	}
	c.left, c.waits, c.tries = left, "", 0
}

// ToldWaits is after how many attempts a statement that waits for its locks is logged again.
const ToldWaits = 10

// Wait keeps what a statement waits for, and whom.
func (c *Completion) Wait(s plan.Statement, holders []dbconn.Process) {
	words := "a statement waits for a lock: " + strings.TrimSuffix(strings.Join(strings.Fields(s.SQL), " "), ";")
	if len(s.Locks) > 0 {
		var names []string
		for _, t := range s.Locks {
			names = append(names, t.Display())
		}
		words = "the writers of " + strings.Join(names, " and ") + " leave no moment for: " + strings.TrimSuffix(strings.Join(strings.Fields(s.SQL), " "), ";")
	}
	for i, h := range holders {
		words += [2]string{"; they are held by ", " and "}[min(i, 1)] + h.String()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries++; c.tries%ToldWaits == 1 {
		c.Log.Info().Str("detail", words).Int("tries", c.tries).Msg("work after the switch waits for locks")
	}
	c.waits = words
}

// Waiting says what the work waits for, "" for nothing that is known.
func (c *Completion) Waiting() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waits
}

// Tries is how often the statement that waits for its locks has been tried.
func (c *Completion) Tries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tries
}

// Blockers are what is in the way of `finish`.
func (c *Completion) Blockers() []control.Blocker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.left)
}

// asRefusals are findings in the form of refusals.
func asRefusals(findings []finding.Finding) []*restore.Error {
	return lists.Map(findings, func(f finding.Finding) *restore.Error { return &restore.Error{Finding: f} })
}
