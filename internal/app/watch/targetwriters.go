package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/control"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/onedatabase"
	"crossfade/internal/base/pg"
)

// writersKept is how many sessions that wrote to the target are remembered.
const writersKept = 5

// TargetWriters notices sessions other than Crossfade's that write to the target before the
// decision. Its fence refuses changes of tables, so they are possible only for a role that removes
// the fence; the triggers' identities prove that none did. Any other write (objects, sequences,
// tables of extensions) makes a transaction one that has written, and its session is remembered
// when it is seen in one. It is safe for concurrent use.
type TargetWriters struct {
	mu   sync.Mutex
	seen []journal.Writer
}

// Ask is a watcher's question.
func (s *TargetWriters) Ask(ctx context.Context, _, target *pgx.Conn) ([]Notice, error) {
	g, err := journal.ReadTargetGuard(ctx, target)
	if err != nil {
		return nil, err
	}
	const again = "rows of the target may differ from the source's: keep other sessions off the target until the switch, and " + StartOver
	var found []Notice
	if !g.Shut {
		found = append(found, Notice{Blocker: control.Blocker{Code: "target_fence_open",
			Detail: "the fence of the target stands open, or stood open for a while, though nothing was decided: function crossfade.fence() was changed", Remedy: again}})
	}
	if len(g.Touched) > 0 {
		found = append(found, Notice{Blocker: control.Blocker{Code: "target_fence_touched",
			Detail: fmt.Sprintf("the fence triggers (%s) of %s on the target were disabled, dropped or made again since the copy: the role that did that could write there", journal.FenceTrigger, some("table", lists.Map(g.Touched, pg.Name.Display))), Remedy: again}})
	}
	for _, w := range s.remember(g.Writing) {
		who := strings.TrimSpace(w.Application + " " + w.Address)
		if who != "" {
			who = " (" + who + ")"
		}
		found = append(found, Notice{Warns: true, Blocker: control.Blocker{Code: "target_writer",
			Detail: fmt.Sprintf("session %d of role %s%s has written to the target's database, in a transaction that began at %s", w.PID, w.User, who, w.Age),
			Remedy: fmt.Sprintf("find out what it is and keep it off the target until the switch: it could change objects, sequences and tables of extensions, but no rows of other tables. This ends it, on the target: SELECT pg_catalog.pg_terminate_backend(%d); then "+GoOnRun+", which reports sessions that write from then on", w.PID)}})
	}
	return found, nil
}

// remember adds sessions to those seen before, and returns the latest.
func (s *TargetWriters) remember(now []journal.Writer) []journal.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range now {
		if !slices.ContainsFunc(s.seen, func(x journal.Writer) bool { return x.PID == w.PID && x.User == w.User }) { // else the first of its transactions tells enough
			s.seen = append(s.seen, w)
		}
	}
	s.seen = s.seen[max(0, len(s.seen)-writersKept):]
	return slices.Clone(s.seen)
}

// AskFence asks whether the source's fence, after it was closed, was open again for a while. What
// is done to its triggers before does not matter: closing the fence makes them what they must be.
func AskFence(ctx context.Context, source, _ *pgx.Conn) ([]Notice, error) {
	what, err := journal.FenceChanged(ctx, source)
	if err != nil || what == "" {
		return nil, err
	}
	return []Notice{{Blocker: control.Blocker{Code: "fence_changed",
		Detail: "the fence of the source was changed after it was closed: " + what + "; a session may have written to the source",
		Remedy: "find who changes triggers on the source and keep it from that, then ask for the cutover again: each one closes the fence once more"}}}, nil
}

// AskOneDatabase finds out whether a name of one side has come to lead to the other since the
// run began, as an entry of DNS or a list of hosts may.
func AskOneDatabase(ctx context.Context, source, target *pgx.Conn) ([]Notice, error) {
	err := onedatabase.Refuse(ctx, source, target)
	var one *onedatabase.Error
	if !errors.As(err, &one) {
		return nil, err
	}
	detail, _ := one.Parts()
	return []Notice{{Blocker: control.Blocker{Code: "one_database", Detail: detail,
		Remedy: "put right what these names lead to (an entry of DNS, a list of hosts, a port that is passed on); crossfade run asks again by itself"}}}, nil
}
