package watch

import (
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/machine"
	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/slot"
)

// AutoBudget as WALBudget chooses one by the source's size.
const AutoBudget = -1

// Guard watches what the migration costs its source (C13) and says what is to be
// done. Its methods may be called by several goroutines.
type Guard struct {
	Limit *relay.Limiter
	log   zerolog.Logger
	// disk tells how many bytes are free in the source's data directory; nil where
	// the source is not on this machine.
	disk func(dir string) (int64, error)

	mu      sync.Mutex // guards what follows
	asked   int64      // the budget that the operator wants: AutoBudget, 0 for none, or bytes
	chosen  int64      // the value that AutoBudget means; 0 until that is known
	dir     string     // the source's data directory; "" until that is known
	budget  slot.Budget
	figures slot.Figures
	verdict slot.Verdict
	waiting []slot.Blocker // what the creation of the slot waits for
}

// figuresAge is how old what was seen of the source may be to count as that of now.
const figuresAge = 5 * PollInterval

// NewGuard returns a guard of a source, with the bounds of a run's configuration.
func NewGuard(source pg.DSN, maxRate, walBudget int64, log zerolog.Logger) *Guard {
	g := &Guard{Limit: relay.NewLimiter(maxRate), log: log, asked: walBudget}
	g.figures.Safe = -1
	if strings.HasPrefix(source.Host(), "/") { // a Unix socket: the same machine
		g.disk = freeBytes
	}
	return g
}

// freeBytes is what an ordinary user may still write to the file system of dir.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Weigh checks the source, and returns what has to be done. The copy's figures are the present
// ones; copying says that it runs. made says that the slot existed before now: one that is being
// created is not lost.
func (g *Guard) Weigh(ctx context.Context, conn *pgx.Conn, name string, made, copying bool, c control.Copy) (slot.Verdict, error) {
	f, err := slot.Weigh(ctx, conn, name)
	if err != nil {
		return slot.Verdict{}, err
	}
	f.At = time.Now()
	f.Copying, f.CopyDone, f.CopyTotal, f.MaxRate = copying, c.BytesDone, c.BytesTotal, g.Limit.Rate()
	if f.Free, err = g.free(ctx, conn); err != nil {
		return slot.Verdict{}, err
	}
	if err := g.choose(ctx, conn, f.Free); err != nil {
		return slot.Verdict{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.verdict
	g.budget.WAL = g.wal()
	g.figures, g.verdict = f, slot.Verdict{}
	if made || !f.Gone && f.Status != "lost" {
		g.verdict = g.budget.Judge(f)
	}
	g.Limit.Pause(g.verdict.Level == slot.Paused)
	g.tell(before)
	return g.verdict, nil
}

// free reads the free space of the source's disk, -1 where that cannot be known.
func (g *Guard) free(ctx context.Context, conn *pgx.Conn) (int64, error) {
	if g.disk == nil {
		return -1, nil
	}
	g.mu.Lock()
	dir := g.dir
	g.mu.Unlock()
	if dir == "" {
		// Hidden from roles that are not members of pg_read_all_settings.
		err := conn.QueryRow(ctx, `SELECT coalesce((SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'), '')`).Scan(&dir)
		if err != nil {
			return -1, err
		}
		g.mu.Lock()
		g.dir = dir
		g.mu.Unlock()
	}
	n, err := g.disk(dir)
	if dir == "" || err != nil {
		return -1, nil // another root directory: not to be known from here
	}
	return n, nil
}

// choose determines once the value that AutoBudget means.
func (g *Guard) choose(ctx context.Context, conn *pgx.Conn, free int64) error {
	g.mu.Lock()
	known := g.chosen != 0
	g.mu.Unlock()
	if known {
		return nil
	}
	data, err := slot.DataBytes(ctx, conn)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.chosen = slot.DefaultBudget(data, free)
	if g.asked == AutoBudget {
		g.log.Info().Int64("wal_budget_bytes", g.chosen).Msg("WAL that may be kept on the source for this migration, by its size; --wal-budget sets another")
	}
	return nil
}

// wal is the budget that holds; the caller holds the lock.
func (g *Guard) wal() int64 {
	if g.asked == AutoBudget {
		return g.chosen
	}
	return g.asked
}

// tell logs what is new; the caller holds the lock.
func (g *Guard) tell(before slot.Verdict) {
	for _, r := range g.verdict.Reasons {
		if before.Level == g.verdict.Level && slices.ContainsFunc(before.Reasons, func(old slot.Reason) bool { return old.Code == r.Code }) {
			continue
		}
		g.log.Warn().Str("code", r.Code).Str("detail", r.Detail).Str("remedy", r.Remedy).Msg("the source is burdened")
	}
	if before.Level == slot.Paused && g.verdict.Level != slot.Paused {
		g.log.Info().Msg("the copy continues")
	}
}

// Blocked receives the transactions that the creation of the slot waits for, none when it no longer
// waits, and logs the new ones.
func (g *Guard) Blocked(b []slot.Blocker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range b {
		if !slices.ContainsFunc(g.waiting, func(old slot.Blocker) bool { return old.PID == x.PID && old.Application == x.Application }) {
			g.log.Warn().Str("blocker", x.String()).Msg("slot waits for an open transaction")
		}
	}
	g.waiting = b
}

// Change sets other bounds. They hold until the daemon ends.
func (g *Guard) Change(c control.LimitsChange) control.Limits {
	if c.MaxRateBytes != nil {
		g.Limit.SetRate(*c.MaxRateBytes)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.WALBudgetBytes != nil {
		g.asked = *c.WALBudgetBytes
	}
	l := control.Limits{MaxRateBytes: g.Limit.Rate(), WALBudgetBytes: g.wal()}
	if c == (control.LimitsChange{}) {
		return l
	}
	g.log.Info().Int64("max_rate_bytes", l.MaxRateBytes).Int64("wal_budget_bytes", l.WALBudgetBytes).Msg("limits set")
	return l
}

// Status fills in what the guard knows.
func (g *Guard) Status(s *control.Status) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &s.Replication
	r.RetainedWALBytes, r.WALBudgetBytes, r.WALStatus, r.SafeWALBytes, r.XminAge = g.figures.Retained, g.wal(), g.figures.Status, g.figures.Safe, g.figures.XminAge
	s.Copy.MaxRateBytes, s.Copy.Held = g.Limit.Rate(), g.verdict.Level == slot.Paused
	stale := time.Since(g.figures.At) > figuresAge || s.Phase == string(machine.Finished) // the slot is gone
	if stale {
		r.RetainedWALBytes, r.WALStatus, r.SafeWALBytes, r.XminAge = control.Unknown, "", control.Unknown, control.Unknown
	}
	if !stale && s.Active != string(machine.SideTarget) { // where nothing depends on the slot any more
		for _, x := range g.verdict.Reasons {
			s.Warnings = append(s.Warnings, control.Blocker{Code: x.Code, Detail: x.Detail, Remedy: x.Remedy})
		}
	}
	for _, x := range g.waiting {
		s.Warnings = append(s.Warnings, control.Blocker{Code: "slot_waits", Detail: "the replication slot waits for " + x.String(),
			Remedy: "let it end; or end it, on the source: " + x.EndSQL()})
	}
}
