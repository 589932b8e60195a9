package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover"
	"crossfade/internal/control"
)

const (
	// scanPatience bounds one look for the status through rows that no stream carries. It is for the
	// source's sake, and below what a question may take.
	scanPatience = 2 * time.Second
	// armingScanPatience is the same while a cutover is armed, when the applications work on: it finds
	// out how long the look takes that is repeated under the fence.
	armingScanPatience = 20 * time.Second
	// pauseRest is what a look under the fence leaves of --max-pause for the rest until the decision.
	pauseRest = time.Second
	// scanSlack is left of the caller's time for an answer.
	scanSlack = 500 * time.Millisecond
)

// scan is how a look through rows that no stream carries is bounded.
type scan struct {
	limit time.Duration
	armed bool           // for a cutover: what is not seen refuses it
	room  time.Duration  // what the pause has for it when it comes to that; 0 for no matter
	of    cutover.Limits // those of the attempt
}

// asking is a watcher's question with a bound that is found when it is asked.
func asking(ask func(context.Context, *pgx.Conn, *pgx.Conn, scan) ([]notice, error), how func() scan) func(context.Context, *pgx.Conn, *pgx.Conn) ([]notice, error) {
	return func(ctx context.Context, source, target *pgx.Conn) ([]notice, error) {
		s := how()
		if deadline, ok := ctx.Deadline(); ok { // the answer is given before the caller's time is up
			s.limit = max(min(s.limit, time.Until(deadline)-scanSlack), time.Millisecond)
		}
		return ask(ctx, source, target, s)
	}
}

func scanForStatus() scan { return scan{limit: scanPatience} }

// scanArming leaves half of the pause, without the drain, to a look under the fence.
func (d *daemon) scanArming() scan {
	of := d.limits()
	return scan{limit: armingScanPatience, armed: true, room: (of.MaxPause - of.DrainTimeout) / 2, of: of}
}

// scanFenced has what is left of the pause.
func (d *daemon) scanFenced() scan {
	of := d.limits()
	left := of.MaxPause - pauseRest
	if closed := d.gateClosed.Load(); closed != nil {
		left -= time.Since(*closed)
	}
	return scan{limit: max(left, time.Millisecond), armed: true, of: of}
}

// limits are those of the attempt under way.
func (d *daemon) limits() cutover.Limits {
	if d.coordinator == nil { // it is made after the watchers
		return cutover.DefaultLimits()
	}
	return d.coordinator.Status().State.Limits
}

// fits refuses, while a cutover is armed, what took longer than the pause has room for.
func (s scan) fits(code, what string, took time.Duration) []notice {
	if s.room == 0 || took <= s.room {
		return nil
	}
	return []notice{{Blocker: control.Blocker{Code: code,
		Detail: fmt.Sprintf("to read %s took %v, and it is read once more in the pause, where --max-pause %v has no more than %v for it", what, took.Round(100*time.Millisecond), s.of.MaxPause, s.room),
		Remedy: s.longer(s.of.DrainTimeout + 3*took)}}}
}

// unseen refuses what could not be read in time.
func (s scan) unseen(code, what, unknown string) []notice {
	b := control.Blocker{Code: code, Detail: fmt.Sprintf("%s could not be read within %v: it is not known %s", what, s.limit.Round(time.Millisecond), unknown), Remedy: s.longer(2 * s.of.MaxPause)}
	if s.room > 0 {
		b.Remedy = "remove what nothing uses (large objects: vacuumlo) until it is read faster, or move it into ordinary tables, large objects into bytea columns; then start over: stop crossfade run, crossfade clean, crossfade run"
	}
	return []notice{{Blocker: b}}
}

func (s scan) longer(pause time.Duration) string {
	return fmt.Sprintf("give the pause more time: crossfade cutover --max-pause %v", pause.Truncate(time.Second)+time.Second)
}
