package slot

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const gib = 1 << 30

// idle are figures of a migration that costs nothing.
func idle() Figures { return Figures{Safe: -1, Free: -1, Status: "reserved"} }

func codes(v Verdict) []string {
	var out []string
	for _, r := range v.Reasons {
		out = append(out, r.Code)
		if r.Detail == "" || r.Remedy == "" {
			out = append(out, "no words")
		}
	}
	return out
}

func TestBudgetOfWAL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		budget int64
		change func(f *Figures)
		level  Level
		codes  []string
	}{
		{"nothing kept", 10 * gib, func(*Figures) {}, Calm, nil},
		{"less than half", 10 * gib, func(f *Figures) { f.Retained = 5*gib - 1 }, Calm, nil},
		{"half", 10 * gib, func(f *Figures) { f.Retained = 5 * gib }, Warned, []string{"wal_budget"}},
		{"all but a byte", 10 * gib, func(f *Figures) { f.Retained = 10*gib - 1 }, Warned, []string{"wal_budget"}},
		{"all", 10 * gib, func(f *Figures) { f.Retained = 10 * gib }, Spent, []string{"wal_budget"}},
		{"no bound", 0, func(f *Figures) { f.Retained = 1000 * gib }, Calm, nil},
		{"the source's limit is lower", 10 * gib, func(f *Figures) { f.Retained, f.Safe = gib, gib }, Warned, []string{"wal_budget"}},
		{"the source's limit alone", 0, func(f *Figures) { f.Retained, f.Safe = 3*gib, gib }, Warned, []string{"wal_budget"}},
		{"the source's limit is reached", 0, func(f *Figures) { f.Retained, f.Safe, f.Status = 3*gib, 0, "unreserved" }, Warned, []string{"slot_unreserved"}},
		{"lost", 10 * gib, func(f *Figures) { f.Status = "lost" }, Lost, []string{"slot_lost"}},
		{"gone", 10 * gib, func(f *Figures) { f.Gone, f.Status = true, "" }, Lost, []string{"slot_lost"}},
		{"little disk", 0, func(f *Figures) { f.Retained, f.Free = 2*gib, gib-1 }, Spent, []string{"wal_disk"}},
		{"little disk for another reason", 0, func(f *Figures) { f.Retained, f.Free = gib/4, gib/2 }, Calm, nil},
		{"old rows", 0, func(f *Figures) { f.XminAge = DefaultXminWarning }, Warned, []string{"xmin_age"}},
		{"rows not that old", 0, func(f *Figures) { f.XminAge, f.XminWarn = 250_000_000, 300_000_000 }, Calm, nil},
		{"very old rows", 0, func(f *Figures) { f.XminAge = XminLimit }, Spent, []string{"xmin_age"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := idle()
			c.change(&f)
			b := Budget{WAL: c.budget}
			v := b.Judge(f)
			require.Equal(t, c.level, v.Level, "%v", v)
			require.Equal(t, c.codes, codes(v))
		})
	}
}

// drive lets a copy of 100 GiB run against a budget of 10 GiB, a second a step,
// and returns the first level other than Calm and Warned, and the last figures.
func drive(b *Budget, f Figures, copySpeed, walSpeed int64, seconds int) (Level, Figures) {
	f.Copying, f.CopyTotal = true, 100*gib
	for range seconds {
		v := b.Judge(f)
		if v.Level > Warned {
			return v.Level, f
		}
		f.At = f.At.Add(time.Second)
		f.CopyDone = min(f.CopyDone+copySpeed, f.CopyTotal)
		f.Retained += walSpeed
		if f.CopyDone == f.CopyTotal {
			return Calm, f
		}
	}
	return Warned, f
}

func TestCopyThatWouldNotEndWithinTheBudgetIsHeld(t *testing.T) {
	t.Parallel()
	b := Budget{WAL: 10 * gib}
	level, f := drive(&b, idle(), gib/16, gib/64, 100_000) // 1600 s of copy, 640 s of budget
	require.Equal(t, Paused, level)
	require.InDelta(t, 7.5, float64(f.Retained)/gib, 0.1, "three quarters are used without a word of holding")

	// Held, it goes on to be held, and the application writes on until all is spent.
	for f.Retained < 10*gib-gib/64 {
		f.At, f.Retained = f.At.Add(time.Second), f.Retained+gib/64
		require.Equal(t, "copy_held", b.Judge(f).Worst().Code)
	}
	f.At, f.Retained = f.At.Add(time.Second), f.Retained+gib/64
	require.Equal(t, Spent, b.Judge(f).Level)
}

func TestHeldCopyGoesOnWithALargerBudget(t *testing.T) {
	t.Parallel()
	b := Budget{WAL: 10 * gib}
	level, f := drive(&b, idle(), gib/16, gib/64, 100_000)
	require.Equal(t, Paused, level)
	v := b.Judge(f)
	require.Equal(t, []string{"copy_held"}, codes(v), "and nothing else for it")
	printed := regexp.MustCompile(`crossfade limits --wal-budget (\d+)M`).FindStringSubmatch(v.Worst().Remedy)
	require.Len(t, printed, 2, v.Worst().Remedy)
	megabytes, err := strconv.ParseInt(printed[1], 10, 64)
	require.NoError(t, err)
	b.WAL = megabytes << 20
	require.Equal(t, Calm, b.Judge(f).Level, "as it is printed")
	b.WAL = 40 * gib
	require.Less(t, b.Judge(f).Level, Paused)
	level, _ = drive(&b, f, gib/16, gib/64, 100_000)
	require.Equal(t, Calm, level, "it ends")
}

func TestCopyThatMayStillMakeItIsNotHeld(t *testing.T) {
	t.Parallel()
	// At three quarters of the budget, after 480 s, 160 s of it are left, and 120 s of the copy.
	b := Budget{WAL: 10 * gib}
	level, f := drive(&b, idle(), 100*gib/600, gib/64, 100_000)
	require.Equal(t, Calm, level)
	require.Greater(t, f.Retained, int64(9*gib))
	// One that misses it by a little is held only when that is plain.
	b = Budget{WAL: 10 * gib}
	level, f = drive(&b, idle(), 100*gib/700, gib/64, 100_000)
	require.Equal(t, Paused, level)
	require.InDelta(t, 9.06, float64(f.Retained)/gib, 0.1)
	// A burst of the application is over before the copy is.
	b = Budget{WAL: 10 * gib}
	_, f = drive(&b, idle(), gib/16, gib/8, 50)
	level, _ = drive(&b, f, gib/4, gib/1024, 100_000)
	require.Equal(t, Calm, level)
}

func TestDefaultBudget(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, 4*gib, DefaultBudget(0, -1))
	require.EqualValues(t, 100*gib, DefaultBudget(1000*gib, -1))
	require.EqualValues(t, 3*gib, DefaultBudget(1000*gib, 6*gib))
}
