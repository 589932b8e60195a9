package watch

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
)

const (
	// ScanPatience bounds one scan for the status of rows that no stream carries. It protects the
	// source, and is below what a question may take.
	ScanPatience = 2 * time.Second
	// ArmingScanPatience is the same while a cutover is armed and the applications still work: it
	// finds out how long the scan takes that is repeated under the fence.
	ArmingScanPatience = 20 * time.Second
	// PauseRest is what a scan under the fence leaves of --max-pause for the rest until the
	// decision.
	PauseRest = time.Second
	// scanSlack is left of the caller's time for an answer.
	scanSlack = 500 * time.Millisecond
)

// Scan says how a scan of rows that no stream carries is bounded.
type Scan struct {
	Limit       time.Duration
	Armed       bool           // for a cutover: what is not seen refuses it
	PauseBudget time.Duration  // how much of the pause it may take; 0 for no limit
	Of          machine.Limits // those of the attempt
}

// WithScan is a watcher's question with a bound that is found when it is asked.
func WithScan(ask func(context.Context, *pgx.Conn, *pgx.Conn, Scan) ([]Notice, error), how func() Scan) func(context.Context, *pgx.Conn, *pgx.Conn) ([]Notice, error) {
	return func(ctx context.Context, source, target *pgx.Conn) ([]Notice, error) {
		s := how()
		if deadline, ok := ctx.Deadline(); ok { // the answer is given before the caller's time is up
			s.Limit = max(min(s.Limit, time.Until(deadline)-scanSlack), time.Millisecond)
		}
		return ask(ctx, source, target, s)
	}
}

// ScanForStatus is how long a scan for the status may take.
func ScanForStatus() Scan { return Scan{Limit: ScanPatience} }

// Fits refuses, while a cutover is armed, what took longer than the pause has room for.
func (s Scan) Fits(code, what string, took time.Duration) []Notice {
	if s.PauseBudget == 0 || took <= s.PauseBudget {
		return nil
	}
	return []Notice{{Blocker: control.Blocker{Code: code,
		Detail: fmt.Sprintf("to read %s took %v, and it is read once more in the pause, where --max-pause %v has no more than %v for it", what, took.Round(100*time.Millisecond), s.Of.MaxPause, s.PauseBudget),
		Remedy: s.longer(s.Of.DrainTimeout + 3*took)}}}
}

// Unseen refuses what could not be read in time.
func (s Scan) Unseen(code, what, unknown string) []Notice {
	b := control.Blocker{Code: code, Detail: fmt.Sprintf("%s could not be read within %v: it is not known %s", what, s.Limit.Round(time.Millisecond), unknown), Remedy: s.longer(2 * s.Of.MaxPause)}
	if s.PauseBudget > 0 {
		b.Remedy = "remove what nothing uses (large objects: vacuumlo) until it is read faster, or move it into ordinary tables, large objects into bytea columns; then start over: stop crossfade run, crossfade clean, crossfade run"
	}
	return []Notice{{Blocker: b}}
}

func (s Scan) longer(pause time.Duration) string {
	return fmt.Sprintf("give the pause more time: crossfade cutover --max-pause %v", pause.Truncate(time.Second)+time.Second)
}
