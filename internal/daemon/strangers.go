package daemon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/control"
	"crossfade/internal/journal"
)

// strangersKept is how many sessions that wrote to the target are remembered.
const strangersKept = 5

// strangers notices who writes to the target before it is decided, other than
// Crossfade. Its fence refuses rows of tables, so that only who takes the fence away can
// change one; that is proved by the triggers' identities. Whatever else somebody may
// write (objects, sequences, tables of extensions) makes his transaction one that
// has written, and he is remembered when he is seen in it. It is safe for concurrent use.
type strangers struct {
	mu   sync.Mutex
	seen []journal.Writer
}

// ask is a watcher's question.
func (s *strangers) ask(ctx context.Context, _, target *pgx.Conn) ([]notice, error) {
	g, err := journal.LookAtTarget(ctx, target)
	if err != nil {
		return nil, err
	}
	const again = "rows of the target may be others than the source's: keep others off the target until the switch, and " + startOver
	var found []notice
	if !g.Shut {
		found = append(found, notice{Blocker: control.Blocker{Code: "target_fence_open",
			Detail: "the fence of the target stands open, or stood open for a while, though nothing was decided: function crossfade.fence() was changed", Remedy: again}})
	}
	if len(g.Touched) > 0 {
		names := make([]string, len(g.Touched))
		for i, n := range g.Touched {
			names[i] = n.Display()
		}
		found = append(found, notice{Blocker: control.Blocker{Code: "target_fence_touched",
			Detail: fmt.Sprintf("the fence triggers (%s) of %s on the target were disabled, dropped or made again since the copy: whoever did that could write there", journal.FenceTrigger, some("table", names)), Remedy: again}})
	}
	for _, w := range s.remember(g.Writing) {
		who := strings.TrimSpace(w.Application + " " + w.Address)
		if who != "" {
			who = " (" + who + ")"
		}
		found = append(found, notice{warns: true, Blocker: control.Blocker{Code: "target_writer",
			Detail: fmt.Sprintf("session %d of role %s%s has written to the target's database, in a transaction that began at %s", w.PID, w.User, who, w.Age),
			Remedy: "find out what it is and keep it off the target until the switch: rows of tables it could not change, but objects, sequences and tables of extensions"}})
	}
	return found, nil
}

// remember adds sessions to those seen before, and returns the latest.
func (s *strangers) remember(now []journal.Writer) []journal.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range now {
		if i := slices.IndexFunc(s.seen, func(x journal.Writer) bool { return x.PID == w.PID && x.User == w.User }); i >= 0 {
			continue // the first of its transactions tells enough
		}
		s.seen = append(s.seen, w)
	}
	s.seen = s.seen[max(0, len(s.seen)-strangersKept):]
	return slices.Clone(s.seen)
}
