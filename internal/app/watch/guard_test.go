package watch

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
)

// writeWAL makes the source write so many bytes of WAL.
const writeWAL = `SELECT count(pg_logical_emit_message(false, 'test', repeat('x', 1 << 20))) FROM generate_series(1, `

// TestASlotThatIsBeingMadeIsNotLost looks at a source in the first second of a run.
func TestASlotThatIsBeingMadeIsNotLost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	log := &bytes.Buffer{}
	g := NewGuard(dsn, 0, 8<<20, zerolog.New(log))
	v, err := g.Weigh(t.Context(), conn, "not_yet", false, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, slot.Calm, v.Level)
	var st control.Status
	g.Status(&st)
	require.Empty(t, st.Warnings)
	require.NotContains(t, log.String(), "slot_lost")

	v, err = g.Weigh(t.Context(), conn, "not_yet", true, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, "slot_lost", v.Worst().Code, "once it was made, it is")

	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('made_"+dsn.Database()+"', 'pgoutput');"+writeWAL+"10)")
	v, err = g.Weigh(t.Context(), conn, "made_"+dsn.Database(), false, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, slot.Spent, v.Level, "what it costs counts from the beginning")
	pgtest.Exec(t, conn, "SELECT pg_drop_replication_slot('made_"+dsn.Database()+"')")
}

func TestGuardWeighsTheSource(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	name := "g_" + dsn.Database()
	log := &bytes.Buffer{}
	g := NewGuard(dsn, 0, 8<<20, zerolog.New(log))
	weigh := func() slot.Verdict {
		v, err := g.Weigh(t.Context(), conn, name, true, false, control.Copy{})
		require.NoError(t, err)
		return v
	}
	require.Equal(t, slot.Lost, weigh().Level, "there is no slot")
	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('"+name+"', 'pgoutput')")
	require.Equal(t, slot.Calm, weigh().Level)

	pgtest.Exec(t, conn, writeWAL+"5)")
	require.Equal(t, slot.Warned, weigh().Level)
	require.Contains(t, log.String(), "wal_budget")
	said := log.Len()
	weigh()
	require.Equal(t, said, log.Len(), "said once")

	var st control.Status
	g.Status(&st)
	require.Greater(t, st.Replication.RetainedWALBytes, int64(4<<20))
	require.EqualValues(t, 8<<20, st.Replication.WALBudgetBytes)
	require.EqualValues(t, -1, st.Replication.SafeWALBytes)
	require.Equal(t, "reserved", st.Replication.WALStatus)
	require.Len(t, st.Warnings, 1)
	require.Equal(t, "wal_budget", st.Warnings[0].Code)
	asked := regexp.MustCompile(`crossfade limits --wal-budget (\d+)M`).FindStringSubmatch(st.Warnings[0].Remedy)
	require.NotNil(t, asked, st.Warnings[0].Remedy)
	megabytes, err := strconv.ParseInt(asked[1], 10, 64)
	require.NoError(t, err)
	larger, budget := megabytes<<20, int64(8<<20)
	g.Change(control.LimitsChange{WALBudgetBytes: &larger})
	require.Equal(t, slot.Calm, weigh().Level, "as it is printed, it is enough")
	g.Change(control.LimitsChange{WALBudgetBytes: &budget})

	pgtest.Exec(t, conn, writeWAL+"5)")
	require.Equal(t, slot.Spent, weigh().Level)
	more := int64(1 << 30)
	require.EqualValues(t, more, g.Change(control.LimitsChange{WALBudgetBytes: &more}).WALBudgetBytes)
	require.Equal(t, slot.Calm, weigh().Level)
	auto := int64(AutoBudget)
	require.EqualValues(t, slot.LeastBudget, g.Change(control.LimitsChange{WALBudgetBytes: &auto}).WALBudgetBytes)
}

func TestGuardKnowsTheDiskOfItsOwnMachine(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	conn := pgtest.Conn(t, dsn)
	name := "d_" + dsn.Database()
	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('"+name+"', 'pgoutput')")
	pgtest.Exec(t, conn, writeWAL+"3)")
	g := NewGuard(dsn, 0, 0, zerolog.Nop())
	require.Nil(t, g.disk, "over TCP the disk may be anybody's")
	var asked string
	free, failed := int64(2<<20), error(nil)
	g.disk = func(dir string) (int64, error) { asked = dir; return free, failed }
	v, err := g.Weigh(t.Context(), conn, name, true, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, pgtest.Value(t, pgtest.Conn(t, c.AdminDSN("postgres")), "SELECT current_setting('data_directory')"), asked)
	require.Equal(t, slot.Spent, v.Level)
	require.Equal(t, "wal_disk", v.Worst().Code)
	failed = errors.New("no such directory")
	v, err = g.Weigh(t.Context(), conn, name, true, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, slot.Calm, v.Level, "what is not known alarms nobody")

	n, err := freeBytes(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, n)
}

func TestGuardTellsThatTheSourceGaveTheSlotUp(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source, func(c *pgcluster.Config) {
		c.Settings["max_slot_wal_keep_size"], c.Settings["min_wal_size"], c.Settings["max_wal_size"] = "'32MB'", "'32MB'", "'32MB'"
	})
	dsn := pgtest.Database(t, c)
	conn, admin := pgtest.Conn(t, dsn), pgtest.Conn(t, c.AdminDSN("postgres"))
	if pgtest.Value(t, conn, "SELECT current_setting('server_version_num')::int < 130000") == "true" {
		t.Skip("before PostgreSQL 13 a source never gives a slot up")
	}
	name := "l_" + dsn.Database()
	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('"+name+"', 'pgoutput')")
	g := NewGuard(dsn, 0, 1<<40, zerolog.Nop())
	weigh := func() slot.Verdict {
		v, err := g.Weigh(t.Context(), conn, name, true, false, control.Copy{})
		require.NoError(t, err)
		return v
	}
	require.Equal(t, slot.Calm, weigh().Level)
	pgtest.Exec(t, conn, writeWAL+"30)")
	v := weigh()
	require.Equal(t, slot.Warned, v.Level, "the source's own limit is lower than the budget")
	require.Contains(t, v.Worst().Detail, "max_slot_wal_keep_size")
	require.Len(t, v.Reasons, 1, "wal_budget, or slot_unreserved once the limit is reached, and not both")
	raise := regexp.MustCompile(`(ALTER SYSTEM SET max_slot_wal_keep_size = '\d+MB') on the source, then (SELECT pg_reload_conf\(\))`).FindStringSubmatch(v.Worst().Remedy)
	require.NotNil(t, raise, v.Worst().Remedy)
	pgtest.Exec(t, admin, raise[1])
	pgtest.Exec(t, admin, raise[2])
	require.Eventually(t, func() bool { return weigh().Level == slot.Calm }, pgtest.Timeout, 20*time.Millisecond, "as it is printed, it is enough")
	for range 5 {
		pgtest.Exec(t, conn, writeWAL+"20)")
		pgtest.Exec(t, admin, "CHECKPOINT")
	}
	v = weigh()
	require.Equal(t, slot.Lost, v.Level)
	require.Contains(t, v.Worst().Detail, "wal_status is lost")
}

func TestGuardNamesWhoTheSlotWaitsFor(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	source, err := pg.ParseDSN("host=db.example user=a dbname=b")
	require.NoError(t, err)
	g := NewGuard(source, 0, 0, zerolog.New(log))
	g.Blocked([]slot.Blocker{{PID: 7, User: "app", Application: "billing", State: "idle in transaction"}})
	said := log.Len()
	require.Positive(t, said)
	g.Blocked([]slot.Blocker{{PID: 7, User: "app", Application: "billing", State: "idle in transaction"}})
	require.Equal(t, said, log.Len(), "said once")
	var st control.Status
	g.Status(&st)
	require.Len(t, st.Warnings, 1)
	require.Equal(t, "slot_waits", st.Warnings[0].Code)
	require.Contains(t, st.Warnings[0].Detail, `pid 7 (idle in transaction, user app, application "billing")`)
	g.Blocked(nil)
	st = control.Status{}
	g.Status(&st)
	require.Empty(t, st.Warnings)
}

// TestASlotThatTheSourceWillGiveUpIsKeptAsItIsPrinted has the source keep less than the slot needs.
func TestASlotThatTheSourceWillGiveUpIsKeptAsItIsPrinted(t *testing.T) {
	t.Parallel()
	c := pgtest.Own(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	admin, conn := pgtest.Conn(t, c.AdminDSN(dsn.Database())), pgtest.Conn(t, dsn)
	g := NewGuard(dsn, 0, 1<<40, zerolog.Nop())
	codes := func() (all []string, remedy string) {
		v, err := g.Weigh(t.Context(), conn, "kept", true, false, control.Copy{})
		require.NoError(t, err)
		for _, r := range v.Reasons {
			all, remedy = append(all, r.Code), r.Remedy
		}
		return all, remedy
	}
	told := func(want ...string) {
		t.Helper()
		require.Eventually(t, func() bool { all, _ := codes(); return slices.Equal(all, want) }, pgtest.Timeout, 20*time.Millisecond)
	}
	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('kept', 'pgoutput'); "+writeWAL+"40)")
	told()
	pgtest.Exec(t, admin, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
	pgtest.Exec(t, admin, "SELECT pg_reload_conf()")
	told("slot_unreserved")
	_, remedy := codes()
	sql := regexp.MustCompile(`(ALTER SYSTEM SET .*) on the source, then (SELECT pg_reload_conf\(\))`).FindStringSubmatch(remedy)
	require.Len(t, sql, 3, remedy)
	pgtest.Exec(t, admin, sql[1])
	pgtest.Exec(t, admin, sql[2])
	require.Eventually(t, func() bool { all, _ := codes(); return !slices.Contains(all, "slot_unreserved") }, pgtest.Timeout, 20*time.Millisecond)
	pgtest.Exec(t, admin, "CHECKPOINT")
	all, _ := codes()
	require.NotContains(t, all, "slot_lost", "and no checkpoint takes it")
	pgtest.Exec(t, conn, "SELECT pg_drop_replication_slot('kept')")
}

// What was seen of a source that is away is no news, and warns of nothing.
func TestFiguresOfASourceThatIsAwayAreNotShown(t *testing.T) {
	t.Parallel()
	source, err := pg.ParseDSN("postgresql://somebody@127.0.0.1/somewhere")
	require.NoError(t, err)
	g := NewGuard(source, 0, 0, zerolog.Nop())
	show := func() (s control.Status) {
		g.Status(&s)
		return s
	}
	require.Equal(t, control.Replication{RetainedWALBytes: -1, SafeWALBytes: -1, XminAge: -1}, show().Replication, "nobody has looked yet")
	g.figures = slot.Figures{At: time.Now(), Retained: 5 << 30, Status: "extended", Safe: 9, XminAge: 3}
	g.verdict = slot.Verdict{Reasons: []slot.Reason{{Code: "wal_budget"}}}
	s := show()
	require.EqualValues(t, 5<<30, s.Replication.RetainedWALBytes)
	require.Equal(t, "extended", s.Replication.WALStatus)
	require.Len(t, s.Warnings, 1)
	g.figures.At = time.Now().Add(-2 * figuresAge)
	s = show()
	require.Equal(t, control.Replication{RetainedWALBytes: -1, SafeWALBytes: -1, XminAge: -1}, s.Replication)
	require.Empty(t, s.Warnings)
}
