package failpoint

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Variable is the environment variable that arms points in a build with the tag "failpoint".
const Variable = "CROSSFADE_FAILPOINT"

// ErrInjected is the error that Err wraps.
var ErrInjected = errors.New("injected error")

type action int

const (
	actionNone action = iota
	actionKill
	actionError
)

// point is what one name was armed with.
type point struct {
	action action
	at     int // the pass that acts; 0 means every pass
	passes int
}

// set holds the armed points of a process.
type set struct {
	mu     sync.Mutex
	points map[string]*point // guarded by mu
}

// pass counts one pass of the named point and says what happens there.
func (s *set) pass(name string) action {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.points[name]
	if p == nil {
		return actionNone
	}
	p.passes++
	if p.at != 0 && p.passes != p.at {
		return actionNone
	}
	return p.action
}

// parse reads "name=action[@pass]", separated by commas.
func parse(value string) (*set, error) {
	s := &set{points: map[string]*point{}}
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, what, found := strings.Cut(item, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("%q: want name=kill, name=kill@N, name=error or name=error@N", item)
		}
		verb, pass, counted := strings.Cut(what, "@")
		p := &point{}
		switch verb {
		case "kill":
			p.action, p.at = actionKill, 1
		case "error":
			p.action = actionError
		default:
			return nil, fmt.Errorf("%q: unknown action %q, want kill or error", item, verb)
		}
		if counted {
			at, err := strconv.Atoi(pass)
			if err != nil || at < 1 {
				return nil, fmt.Errorf("%q: want a pass number from 1, not %q", item, pass)
			}
			p.at = at
		}
		s.points[name] = p
	}
	return s, nil
}
