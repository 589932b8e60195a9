package slot

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Level says what is to be done about what a migration costs its source.
type Level int

// The levels, each worse than the one before.
const (
	Calm   Level = iota
	Warned       // tell the operator
	Paused       // hold the copy: it would not end within the budget
	Spent        // drop the slot, rather than fill the source's disk
	Lost         // the slot can no longer be used
)

// String returns the level as status shows it.
func (l Level) String() string { return [...]string{"calm", "warned", "paused", "spent", "lost"}[l] }

const (
	// DefaultXminWarning is autovacuum_freeze_max_age where that is not known:
	// beyond it the source begins vacuums that cannot do what they are for.
	DefaultXminWarning = 200_000_000
	// XminLimit is half of the way to the 2^31 transactions at which a server
	// refuses to write; its vacuums need the other half to clear up.
	XminLimit = 1_000_000_000
	// DiskFloor is the free space at which a slot is given up. A source writes as
	// much as its max_wal_size, 1 GB unless configured, before the checkpoint that
	// gives back what a dropped slot had kept.
	DiskFloor = 1 << 30
	// LeastBudget and DataShare make the budget where none is given: a tenth of the data, since
	// storage is seldom planned with less to spare, and what any volume has where the data are few.
	LeastBudget = 4 << 30
	DataShare   = 10

	// forecastSpan is how much of the past a forecast is made from: long enough
	// for some chunks, short enough to see a batch job of the application begin
	// and end. forecastLeast is the least that one is made from.
	forecastSpan  = 2 * time.Minute
	forecastLeast = 30 * time.Second
	// hopeless is by how much a copy must miss the budget to be stopped: a forecast is no better
	// than that. When the forecast improves it continues.
	hopeless = 2.0
	hopeful  = 1.5
)

// DefaultBudget is the budget for a source with so many bytes of data, of whose
// disk so much is free, -1 where that is not known.
func DefaultBudget(data, free int64) int64 {
	b := max(data/DataShare, LeastBudget)
	if free >= 0 {
		b = min(b, free/2)
	}
	return b
}

// Reason is one thing that the operator should know.
type Reason struct {
	Level          Level
	Code           string // stable: wal_budget, copy_held, wal_disk, slot_unreserved, slot_lost, xmin_age
	Detail, Remedy string
}

// Verdict is what a Budget says of Figures.
type Verdict struct {
	Level   Level
	Reasons []Reason
}

// Worst is the first reason of the verdict's level.
func (v Verdict) Worst() Reason {
	for _, r := range v.Reasons {
		if r.Level == v.Level {
			return r
		}
	}
	return Reason{}
}

// Budget judges figures, one after the other. It does nothing by itself, has no
// clock, and is not safe for concurrent use.
type Budget struct {
	WAL int64 // bytes that may be retained; 0 for no bound

	past  []Figures // oldest first, of the copy that runs
	speed float64   // of the copy, bytes a second, as it was when it was last seen to run
	held  bool      // the last verdict was Paused
}

// Judge takes the newest figures and says what is to be done. While it says
// Paused, the caller lets no bytes of the copy through.
func (b *Budget) Judge(f Figures) Verdict {
	v := Verdict{}
	add := func(l Level, code, detail, remedy string) {
		v.Level = max(v.Level, l)
		v.Reasons = append(v.Reasons, Reason{l, code, detail, remedy})
	}
	again := "start over: stop crossfade run, crossfade clean, crossfade run"
	if f.Gone || f.Status == "lost" {
		detail := "the replication slot is not on the source any more: someone dropped it, or Crossfade did when the budget of --wal-budget was spent"
		if !f.Gone {
			detail = "the source has removed WAL that the replication slot needed (wal_status is lost): max_slot_wal_keep_size is too small for this migration"
		}
		add(Lost, "slot_lost", detail+"; the source is unharmed, but the changes cannot be followed any further", again)
		return v
	}
	b.judgeWAL(f, again, add)
	if f.Free >= 0 && f.Free < DiskFloor && f.Retained > f.Free {
		add(Spent, "wal_disk", fmt.Sprintf("the source's disk has %s left, and %s are kept for this migration", Bytes(f.Free), Bytes(f.Retained)), again)
	}
	if f.Status == "unreserved" {
		add(Warned, "slot_unreserved", "the source will remove WAL that the replication slot needs at its next checkpoint (wal_status is unreserved): max_slot_wal_keep_size is too small for this migration",
			"now, "+keepMore(f.Retained))
	}
	warn := cmp.Or(f.XminWarn, DefaultXminWarning)
	if f.XminAge >= warn {
		level := Warned
		if f.XminAge >= XminLimit {
			level = Spent
		}
		add(level, "xmin_age", fmt.Sprintf("vacuum on the source keeps dead rows of the last %d transactions for this migration", f.XminAge),
			"let the migration end soon: the copy releases its snapshot after its last table, and the slot advances when the target has caught up")
	}
	b.held = v.Level == Paused
	return v
}

func (b *Budget) judgeWAL(f Figures, again string, add func(Level, string, string, string)) {
	limit, whose := b.WAL, "the budget of --wal-budget"
	if f.Safe >= 0 && f.Status != "unreserved" && (limit == 0 || f.Retained+f.Safe < limit) {
		limit, whose = f.Retained+f.Safe, "what max_slot_wal_keep_size leaves it"
	}
	b.remember(f)
	if limit == 0 {
		return
	}
	what := fmt.Sprintf("%s of WAL are kept on the source for this migration, of %s, %s", Bytes(f.Retained), Bytes(limit), whose)
	raise := fmt.Sprintf("if the source's disk has more: crossfade limits --wal-budget %dM", megabytes(2*limit))
	if limit != b.WAL {
		raise = keepMore(limit)
	}
	if f.Copying && f.MaxRate > 0 {
		raise += "; --max-rate holds the copy back"
	}
	switch {
	case b.WAL > 0 && f.Retained >= b.WAL:
		add(Spent, "wal_budget", what, again+" with a larger --wal-budget, or when the source writes less")
	case f.Copying && f.Retained >= limit/4*3 && b.misses(f, limit):
		add(Paused, "copy_held", what+"; the copy would not end within it and is held, since it would load the source for nothing", raise)
	case f.Retained >= limit/2:
		add(Warned, "wal_budget", what, raise)
	}
}

// keepMore is the remedy that makes the source keep twice as much for a slot.
func keepMore(n int64) string {
	return fmt.Sprintf("if the source's disk has more: ALTER SYSTEM SET max_slot_wal_keep_size = '%dMB' on the source, then SELECT pg_reload_conf()", megabytes(2*n))
}

// megabytes rounds up.
func megabytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }

// remember keeps what a forecast needs.
func (b *Budget) remember(f Figures) {
	if !f.Copying || len(b.past) > 0 && f.CopyDone < b.past[len(b.past)-1].CopyDone {
		b.past = nil // it ended, or a table began again
	}
	if !f.Copying {
		return
	}
	b.past = append(b.past, f)
	for len(b.past) > 2 && f.At.Sub(b.past[1].At) >= forecastSpan {
		b.past = b.past[1:]
	}
	first := b.past[0]
	if dt := f.At.Sub(first.At); !b.held && dt >= forecastLeast {
		b.speed = float64(f.CopyDone-first.CopyDone) / dt.Seconds()
	}
}

// misses reports that the copy would need much longer than the WAL that may still be kept lasts.
func (b *Budget) misses(f Figures, limit int64) bool {
	first := b.past[0]
	dt := f.At.Sub(first.At)
	if dt < forecastLeast {
		return b.held
	}
	growth := float64(f.Retained-first.Retained) / dt.Seconds()
	if growth <= 0 {
		return false
	}
	lasts := float64(limit-f.Retained) / growth
	factor := hopeless
	if b.held {
		factor = hopeful
	}
	return float64(f.CopyTotal-f.CopyDone) > b.speed*lasts*factor
}

// Bytes writes a number of bytes for an operator.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, exp := float64(n)/unit, 0
	for v >= unit && exp < 5 {
		v /= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[exp])
}

// Figures are what a migration costs its source at one moment.
type Figures struct {
	At       time.Time
	Gone     bool   // the slot is not there
	Status   string // wal_status; "" where the source has none
	Retained int64  // bytes of WAL kept because of the slot
	Safe     int64  // bytes until the source itself gives the slot up; -1 for no limit
	Free     int64  // bytes free on the source's disk; -1 where that is not known
	XminAge  int64  // transactions since the oldest one whose dead rows are kept for us
	XminWarn int64  // age from which that is told; DefaultXminWarning if 0

	// The copy, while it runs: forecasts are made from it.
	Copying             bool
	CopyDone, CopyTotal int64 // bytes
	MaxRate             int64 // bytes a second; 0 for no bound
}

// Weigh reads what the slot and the sessions of this role that call themselves
// crossfade cost the source. At, Free and the copy's figures are the caller's.
func Weigh(ctx context.Context, conn *pgx.Conn, name string) (Figures, error) {
	s, ok, err := Get(ctx, conn, name)
	if err != nil {
		return Figures{}, err
	}
	f := Figures{Gone: !ok, Status: s.WALStatus, Retained: s.Retained, Safe: s.SafeWALSize, Free: -1}
	if ok && s.Lost() {
		f.Status = "lost"
	}
	if !ok {
		f.Safe = -1
	}
	err = conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint, greatest(
			(SELECT coalesce(greatest(pg_catalog.age(xmin), pg_catalog.age(catalog_xmin)), 0) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1),
			(SELECT coalesce(max(pg_catalog.age(backend_xmin)), 0) FROM pg_catalog.pg_stat_activity
				WHERE application_name LIKE 'crossfade%' AND usename = current_user AND datname = pg_catalog.current_database()))::bigint`, name).
		Scan(&f.XminWarn, &f.XminAge)
	return f, pg.Wrap(err, "read the age of the oldest transaction")
}

// DataBytes is the size of the source's databases, as far as the role may see it.
func DataBytes(ctx context.Context, conn *pgx.Conn) (int64, error) {
	var n int64
	err := conn.QueryRow(ctx, `SELECT coalesce(sum(pg_catalog.pg_database_size(oid)), 0)::bigint FROM pg_catalog.pg_database
		WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')`).Scan(&n)
	return n, pg.Wrap(err, "read the size of the databases")
}
