package daemon

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover"
	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/app/ports"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
)

// A finish whose names lead to one database would drop there what serves the applications.
func TestAFinishOfTwoNamesOfOneDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	source := dbconn.New(b.SourceDSN)
	t.Cleanup(source.Close)
	finish := func(target pg.DSN) error {
		other := dbconn.New(target)
		defer other.Close()
		return refuseOneDatabase(t.Context(), watch.New(source, other, zerolog.Nop()))
	}
	remedy := apptest.ToldAlone(t, finish(b.SourceDSN), "--source and --target lead to one database")
	require.Equal(t, "look at what the two connection strings lead to now, then run this again", remedy)
	require.NotContains(t, finish(b.SourceDSN).Error(), "name another database", "a finish is of the two that the run has")
	require.NoError(t, finish(b.TargetDSN), "they lead to two again")
}

// What a table was accepted for is looked up among the tables that were moved, which the target
// has.
func TestAFinishThatCannotReadTheTablesOfTheTargetIsRefused(t *testing.T) {
	t.Parallel()
	w := apptest.NewWatched(t, apptest.WatchedTables)
	run, err := journal.LoadTarget(t.Context(), w.Target)
	require.NoError(t, err)
	away := w.Comparer.Migration.Task.Target
	m := migration.New(migration.Config{Source: w.Comparer.Migration.Task.Source, Target: away.WithDatabase("gone_" + away.Database()), Identity: runs.Identity{Target: run}, Log: zerolog.Nop(), Roles: w.Comparer.Migration.Task.Roles})
	d := bare(func(d *daemon) { d.core.migration = m; d.core.verify = &ports.Verification{} })
	remedy := apptest.ToldAlone(t, d.finisher.refuseUnknownTables(t.Context(), cutover.Status{}, []string{"public.a"}), "the tables that were moved cannot be read from the target: ")
	require.Equal(t, "make it reachable, then run this again", remedy)
	m.Task.Target = away
	require.NoError(t, d.finisher.refuseUnknownTables(t.Context(), cutover.Status{}, []string{"public.a"}))
}

// Stubs of what a coordinator that has ended is not asked for.
type (
	unended struct{ cutover.Journal }
	silent  struct{ cutover.Replication }
	blank   struct{ cutover.Verification }
	still   struct{ cutover.Traffic }
)

func (unended) Take(ctx context.Context) (machine.Record, error) {
	<-ctx.Done()
	return machine.Record{}, ctx.Err()
}
func (silent) Tripped() <-chan cutover.Trip      { return nil }
func (still) Ended() (int, []string)             { return 0, nil }
func (blank) Status() cutover.VerificationStatus { return cutover.VerificationStatus{} }

// A coordinator that has ended answers nothing: that is told once, with the place that says more.
func TestWhatACoordinatorThatEndedRefusesIsToldOnce(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	c, err := cutover.New(cutover.Config{Journal: unended{}, Traffic: still{}, Forward: cutover.Ports{Source: b.SourcePort, Target: b.TargetPort, Replication: silent{}, Verification: blank{}},
		Limits: machine.DefaultLimits(), Log: zerolog.Nop()})
	require.NoError(t, err)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, c.Run(ended))
	_, err = (bare(func(d *daemon) { d.core.coordinator = c })).answers.Cutover(t.Context(), control.CutoverOptions{}, func(control.Event) {})
	require.Equal(t, "look at crossfade status and the daemon's log", apptest.ToldAlone(t, err, cutover.ErrStopped.Error()))
	require.Equal(t, "look at crossfade status", apptest.ToldAlone(t, recordFinished(t.Context(), c), cutover.ErrStopped.Error()))
}

// A migration that stopped for a reason that has no remedy of its own says how to go on and how to
// give it up.
func TestAnErrorWithoutARemedySaysHowToGoOn(t *testing.T) {
	t.Parallel()
	err := (migration.New(migration.Config{})).Explained(errors.New("the disk burns"), "run this again")
	require.EqualError(t, err, "the disk burns; run this again, or crossfade clean")
	_, err = (migration.New(migration.Config{})).Schema.DecisionSQL()
	apptest.ToldAlone(t, err, "the schema has not been read yet: wait until the phase is following")
	w := apptest.NewWatched(t, apptest.WatchedTables)
	_, err = w.Comparer.Migration.Schema.DecisionSQL()
	require.NoError(t, err, "it has been read")
}

// A table that was made after the fence was prepared has none, until an attempt prepares it once
// more.
func TestATableWithoutAFenceIsToldOnceUntilTheNextAttempt(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	pgtest.Exec(t, b.Source, "CREATE TABLE public.made (id int PRIMARY KEY)")
	_, err := b.SourcePort.Tables(t.Context())
	require.Contains(t, apptest.ToldAlone(t, err, "table public.made has no fence: it was made a moment ago"), "try again")
	_, err = b.SourcePort.PrepareFence(t.Context())
	require.NoError(t, err)
	_, err = b.SourcePort.Tables(t.Context())
	require.ErrorContains(t, err, "table public.made was made since the migration began", "now it is told that it is not followed")
	pgtest.Exec(t, b.Source, "DROP TABLE public.made")
	_, err = b.SourcePort.Tables(t.Context())
	require.NoError(t, err)
}

// An application that makes a table each time the slot is made keeps it from being made.
func TestTablesThatAreMadeWithTheSlotAreToldOnce(t *testing.T) {
	t.Parallel()
	own := pgtest.Own(t, pgtest.Source) // each slot waits for all transactions of its server
	b := apptest.PortsFixtureOn(t, pgtest.Database(t, own))
	require.NoError(t, slot.DropPublication(t.Context(), b.Source, journal.Publication))
	admin := pgtest.Conn(t, own.AdminDSN(b.SourceDSN.Database()))
	pgtest.Exec(t, admin, `CREATE SEQUENCE public.n; GRANT USAGE ON SEQUENCE public.n TO PUBLIC; CREATE FUNCTION public.makes() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
		BEGIN EXECUTE format('CREATE TABLE public.made_%s (id int PRIMARY KEY)', nextval('public.n')); EXECUTE format('ALTER TABLE public.made_%s OWNER TO `+b.SourceDSN.User()+`', currval('public.n')); END $$;
		CREATE EVENT TRIGGER makes ON ddl_command_end WHEN TAG IN ('CREATE PUBLICATION', 'ALTER PUBLICATION') EXECUTE FUNCTION public.makes()`)
	run, err := journal.LoadTarget(t.Context(), b.Target)
	require.NoError(t, err)
	run.Slot = "s_" + b.SourceDSN.Database()
	m := migration.New(migration.Config{Source: b.SourceDSN, Target: b.TargetDSN, Identity: runs.Identity{Target: run}, Jobs: 1, LockTimeout: apptest.LockTimeout, Log: zerolog.Nop()})
	t.Cleanup(func() {
		_ = slot.Drop(context.Background(), pgtest.Conn(t, b.SourceDSN), run.Slot)
	})
	_, err = m.MakeSlot(t.Context(), b.Target)
	require.Contains(t, apptest.ToldAlone(t, err, "was made while the slot was made, 10 times over"), "let the application make no tables for a moment")
	pgtest.Exec(t, admin, "DROP EVENT TRIGGER makes")
	held, err := m.MakeSlot(t.Context(), b.Target)
	require.NoError(t, err)
	held.Close()
}

// A start whose source was away and, when it comes, holds nothing of the run, does not begin the
// run once more.
func TestASourceThatComesLateAndHoldsNothingIsRefused(t *testing.T) {
	t.Parallel()
	g := newLeftoverFixture(t)
	g.hold("", "", "r1", journal.PhaseStarted, runs.ModeRun, "")
	s, target := pgtest.Conn(t, g.source), pgtest.Conn(t, g.target)
	id, err := runs.Find(t.Context(), s, target, g.source, g.target)
	require.NoError(t, err)
	_, err = (bare(func(d *daemon) {})).entry.prepareRun(t.Context(), s, target, id, false)
	said := apptest.ToldAlone(t, err, "the source holds nothing of the run that the target holds")
	require.NoError(t, g.command(commandOf(t, said, "crossfade clean")), said)
	require.NoError(t, g.command("crossfade run"))
}

// A side that takes connections and answers none is told to be away, once, when the other side
// holds a run.
func TestASideThatDoesNotAnswerInTimeIsToldOnce(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = mute.Close() })
	host, port, err := net.SplitHostPort(mute.Addr().String())
	require.NoError(t, err)
	source, err := pg.ParseDSN("host=" + host + " port=" + port + " user=u dbname=d sslmode=disable connect_timeout=60")
	require.NoError(t, err)
	sides := func(source pg.DSN) (errs [2]error) {
		one, other := (bare(func(d *daemon) { d.core.cfg = options.Run{Source: source, Target: b.TargetDSN} })).entry.dial(t.Context())
		for i, side := range []dialled{one, other} {
			errs[i] = side.err
			if side.conn != nil {
				dbconn.CloseNow(side.conn)
			}
		}
		return errs
	}
	errs := sides(source)
	require.NoError(t, errs[1])
	apptest.ToldAlone(t, errs[0], "no answer within "+awayPatience.String())
	for waited := time.Now(); sides(b.SourceDSN) != [2]error{}; { // it has come, as fast as this machine lets it
		require.Less(t, time.Since(waited), pgtest.Timeout)
	}
}

// What acts on a run that another process has taken since is told so once.
func TestARunThatHasMovedOnIsToldOnce(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	b.Pause(1)
	_, err := journal.Take(t.Context(), b.Source, "another")
	require.NoError(t, err)
	err = b.JournalPort.Persist(t.Context(), cutover.Change{Epoch: 1, Direction: machine.Forward, From: machine.Pausing, To: machine.Fenced})
	require.ErrorIs(t, err, cutover.ErrConflict)
	apptest.ToldAlone(t, err, "the run has moved on without us")
	require.ErrorContains(t, err, "another Crossfade process acts on it")
}
