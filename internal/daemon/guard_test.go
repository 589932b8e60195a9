package daemon

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/control"
	"crossfade/internal/pg"
	"crossfade/internal/pgcluster"
	"crossfade/internal/pgcluster/pgtest"
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
	g := newGuard(Config{Source: dsn, WALBudget: 8 << 20}, zerolog.New(log))
	v, err := g.weigh(t.Context(), conn, "not_yet", false, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, slot.Calm, v.Level)
	var st control.Status
	g.status(&st)
	require.Empty(t, st.Warnings)
	require.NotContains(t, log.String(), "slot_lost")

	v, err = g.weigh(t.Context(), conn, "not_yet", true, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, "slot_lost", v.Worst().Code, "once it was made, it is")

	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('made_"+dsn.Database()+"', 'pgoutput');"+writeWAL+"10)")
	v, err = g.weigh(t.Context(), conn, "made_"+dsn.Database(), false, false, control.Copy{})
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
	g := newGuard(Config{Source: dsn, WALBudget: 8 << 20}, zerolog.New(log))
	weigh := func() slot.Verdict {
		v, err := g.weigh(t.Context(), conn, name, true, false, control.Copy{})
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
	g.status(&st)
	require.Greater(t, st.Replication.RetainedWALBytes, int64(4<<20))
	require.EqualValues(t, 8<<20, st.Replication.WALBudgetBytes)
	require.EqualValues(t, -1, st.Replication.SafeWALBytes)
	require.Equal(t, "reserved", st.Replication.WALStatus)
	require.Len(t, st.Warnings, 1)
	require.Equal(t, "wal_budget", st.Warnings[0].Code)

	pgtest.Exec(t, conn, writeWAL+"5)")
	require.Equal(t, slot.Spent, weigh().Level)
	more := int64(1 << 30)
	require.EqualValues(t, more, g.change(control.LimitsChange{WALBudgetBytes: &more}).WALBudgetBytes)
	require.Equal(t, slot.Calm, weigh().Level)
	auto := int64(AutoBudget)
	require.EqualValues(t, slot.LeastBudget, g.change(control.LimitsChange{WALBudgetBytes: &auto}).WALBudgetBytes)
}

func TestGuardKnowsTheDiskOfItsOwnMachine(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	conn := pgtest.Conn(t, dsn)
	name := "d_" + dsn.Database()
	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('"+name+"', 'pgoutput')")
	pgtest.Exec(t, conn, writeWAL+"3)")
	g := newGuard(Config{Source: dsn}, zerolog.Nop())
	require.Nil(t, g.disk, "over TCP the disk may be anybody's")
	var asked string
	free, failed := int64(2<<20), error(nil)
	g.disk = func(dir string) (int64, error) { asked = dir; return free, failed }
	v, err := g.weigh(t.Context(), conn, name, true, false, control.Copy{})
	require.NoError(t, err)
	require.Equal(t, pgtest.Value(t, pgtest.Conn(t, c.AdminDSN("postgres")), "SELECT current_setting('data_directory')"), asked)
	require.Equal(t, slot.Spent, v.Level)
	require.Equal(t, "wal_disk", v.Worst().Code)
	failed = errors.New("no such directory")
	v, err = g.weigh(t.Context(), conn, name, true, false, control.Copy{})
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
	g := newGuard(Config{Source: dsn, WALBudget: 1 << 40}, zerolog.Nop())
	weigh := func() slot.Verdict {
		v, err := g.weigh(t.Context(), conn, name, true, false, control.Copy{})
		require.NoError(t, err)
		return v
	}
	require.Equal(t, slot.Calm, weigh().Level)
	pgtest.Exec(t, conn, writeWAL+"30)")
	v := weigh()
	require.Equal(t, slot.Warned, v.Level, "the source's own limit is lower than the budget")
	require.Contains(t, v.Worst().Detail, "max_slot_wal_keep_size")
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
	g := newGuard(Config{Source: source}, zerolog.New(log))
	g.blocked([]slot.Blocker{{PID: 7, User: "app", Application: "billing", State: "idle in transaction"}})
	said := log.Len()
	require.Positive(t, said)
	g.blocked([]slot.Blocker{{PID: 7, User: "app", Application: "billing", State: "idle in transaction"}})
	require.Equal(t, said, log.Len(), "said once")
	var st control.Status
	g.status(&st)
	require.Len(t, st.Warnings, 1)
	require.Equal(t, "slot_waits", st.Warnings[0].Code)
	require.Contains(t, st.Warnings[0].Detail, `pid 7 (idle in transaction, user app, application "billing")`)
	g.blocked(nil)
	st = control.Status{}
	g.status(&st)
	require.Empty(t, st.Warnings)
}
