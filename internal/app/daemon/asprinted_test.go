package daemon

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/internal/app/apptest"
	"crossfade/internal/app/check"
	"crossfade/internal/app/oneshot"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/app/undo"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// leftoverFixture is two databases in which something was left, and a command that finds it.
type leftoverFixture struct {
	t              *testing.T
	source, target pg.DSN
}

// servingEnds ends a run as soon as it serves.
type servingEnds context.CancelFunc

func (end servingEnds) Write(p []byte) (int, error) {
	if strings.Contains(string(p), `"message":"serving"`) {
		end()
	}
	return len(p), nil
}

// command types a command of the program; a run ends when it serves.
func (g *leftoverFixture) command(line string) error {
	g.t.Helper()
	words := strings.Fields(line)
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	force := len(words) > 2 && words[2] == "--force"
	switch words[1] {
	case "clean":
		return undo.Clean(ctx, g.source, g.target, force, func(string) {})
	case "copy":
		o := options.Copy{Jobs: 1}
		for _, flag := range words[2:] {
			switch flag {
			case "--no-acl":
				o.Schema.NoACL = true
			case "--data-only":
				o.DataOnly = true
			case "--schema-only":
				o.SchemaOnly = true
			default:
				g.t.Fatalf("a copy with %s", flag)
			}
		}
		_, err := oneshot.Copy(ctx, g.source, g.target, o, zerolog.Nop(), nil)
		return err
	case "run":
		serving, end := context.WithCancel(ctx)
		defer end()
		err := Run(serving, runConfig(g.t, g.source, g.target), zerolog.New(servingEnds(end)), nil)
		if errors.Is(err, context.Canceled) || errors.As(err, new(*check.RefusedError)) { // check is asked when nothing that was left refuses; it sees the roles of other tests
			return nil
		}
		return err
	case "recover":
		_, err := undo.Recover(ctx, g.source, g.target)
		return err
	}
	g.t.Fatalf("there is no command %s", line)
	return nil
}

// printed is a command of a remedy, with its flags but for the connection strings.
var printed = regexp.MustCompile(`crossfade (?:clean|copy|run|recover)(?: --(?:force|no-acl|data-only|schema-only))*`)

// commandOf is the command of a remedy that begins so, as it is printed.
func commandOf(t *testing.T, said, begins string) string {
	t.Helper()
	for _, c := range printed.FindAllString(said, -1) {
		if strings.HasPrefix(c, begins) {
			return c
		}
	}
	require.Fail(t, "no command", "%s in: %s", begins, said)
	return ""
}

// hold makes the journals of a run that was left; "" is none.
func (g *leftoverFixture) hold(source, step, target string, phase journal.Phase, mode, options string) {
	g.t.Helper()
	s, t := pgtest.Conn(g.t, g.source), pgtest.Conn(g.t, g.target)
	if source != "" {
		require.NoError(g.t, journal.InstallSource(g.t.Context(), s, journal.SourceRun{RunID: source, Key: "k"}))
		pgtest.Exec(g.t, s, "UPDATE crossfade.run SET step = "+pg.QuoteLiteral(step))
	}
	if target != "" {
		system, err := runs.SystemIdentifier(g.t.Context(), g.source)
		require.NoError(g.t, err)
		require.NoError(g.t, journal.InstallTarget(g.t.Context(), t, journal.TargetRun{RunID: target, Key: "k", Mode: mode, Options: options, SourceSystem: system,
			SourceDatabase: g.source.Database(), Slot: journal.SlotPrefix + target}))
		pgtest.Exec(g.t, t, "UPDATE crossfade.run SET phase = "+pg.QuoteLiteral(string(phase)))
	}
}

func newLeftoverFixture(t *testing.T) *leftoverFixture {
	t.Helper()
	g := &leftoverFixture{t: t, source: pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), target: pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}
	pgtest.Exec(t, pgtest.Conn(t, g.source), "CREATE TABLE public.a (id int PRIMARY KEY); INSERT INTO public.a VALUES (1)")
	return g
}

// What refuses a command because of something that was left in the databases is told once, and the
// commands that it prints remove it.
func TestWhatIsLeftInTheDatabasesIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	idle, decided, finished := string(machine.Idle), string(machine.Decided), string(machine.Finished)
	none := func(*leftoverFixture) {}
	for name, x := range map[string]struct {
		left    func(*leftoverFixture)
		command string
		says    string
		typed   []string // how what is typed begins
		then    string   // the command that is not refused then; the same one unless given
	}{
		"the target holds nothing of the source's run": {func(g *leftoverFixture) { g.hold("r1", idle, "", "", "", "") }, "crossfade run",
			"name the target of that run, or remove what it left with: crossfade clean", []string{"crossfade clean"}, ""},
		"the source holds nothing of the target's run": {func(g *leftoverFixture) { g.hold("", "", "r1", journal.PhaseIndexed, runs.ModeRun, "") }, "crossfade run",
			"or, where that is gone or holds nothing of it any more, remove what it left", []string{"crossfade clean"}, ""},
		"the run began with another source": {func(g *leftoverFixture) {
			g.hold("", "", "r1", journal.PhaseIndexed, runs.ModeRun, "")
			pgtest.Exec(g.t, pgtest.Conn(g.t, g.target), "UPDATE crossfade.run SET source_system = '1'")
		}, "crossfade clean", "is not the database that this run began with", []string{"crossfade clean --force", "crossfade run"}, ""},
		"the run began with another source, and is switched": {func(g *leftoverFixture) {
			g.hold("", "", "r1", journal.PhaseSwitched, runs.ModeRun, "")
			pgtest.Exec(g.t, pgtest.Conn(g.t, g.target), "UPDATE crossfade.run SET source_system = '1'")
		}, "crossfade clean", "and the applications connect to the target directly", []string{"crossfade clean --force"}, ""},
		"a clean of a run that was switched": {func(g *leftoverFixture) { g.hold("r1", decided, "r1", journal.PhaseSwitched, runs.ModeRun, "") }, "crossfade clean",
			"the target is the active side of this run", []string{"crossfade clean --force"}, ""},
		"a clean of a run that was switched to another target": {func(g *leftoverFixture) { g.hold("r1", decided, "", "", "", "") }, "crossfade clean",
			"was switched to another target than this", []string{"crossfade clean --force"}, ""},
		"a clean of a run that was finished": {func(g *leftoverFixture) { g.hold("r1", finished, "", "", "", "") }, "crossfade clean",
			"its source is kept closed so that nobody writes there by mistake", []string{"crossfade clean --force"}, ""},
		"a copy where a run is": {func(g *leftoverFixture) { g.hold("r1", idle, "r1", journal.PhaseIndexed, runs.ModeRun, "") }, "crossfade copy",
			"keeps what was copied; or to give it up", []string{"crossfade clean"}, ""},
		"a run where a copy is": {func(g *leftoverFixture) { g.hold("", "", "r1", journal.PhaseStarted, runs.ModeCopy, "--no-acl") }, "crossfade run",
			"keeps what was copied; or to give it up", []string{"crossfade clean"}, ""},
		"a run where a copy is that goes on": {func(g *leftoverFixture) { g.hold("", "", "r1", journal.PhaseStarted, runs.ModeCopy, "--no-acl") }, "crossfade run",
			"continues it, and keeps what was copied", []string{"crossfade copy --no-acl"}, "crossfade recover"},
		"a copy with other flags": {func(g *leftoverFixture) { g.hold("", "", "r1", journal.PhaseStarted, runs.ModeCopy, "--no-acl") }, "crossfade copy",
			"a copy with other flags was interrupted here", []string{"crossfade copy --no-acl"}, "crossfade recover"},
		"a copy with other flags that is given up": {func(g *leftoverFixture) { g.hold("", "", "r1", journal.PhaseStarted, runs.ModeCopy, "--no-acl") }, "crossfade copy",
			"a copy with other flags was interrupted here", []string{"crossfade clean"}, ""},
		"a copy of rows where no schema is": {none, "crossfade copy --data-only",
			"table public.a is not on the target", []string{"crossfade copy --schema-only"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newLeftoverFixture(t)
			x.left(g)
			err := g.command(x.command)
			require.ErrorContains(t, err, x.says)
			said := err.Error()
			require.NotContains(t, said, "\n")
			require.Equal(t, 1, strings.Count(said, x.says))
			for _, begins := range x.typed {
				require.NoError(t, g.command(commandOf(t, said, begins)), said)
			}
			if x.then == "" {
				x.then = x.command
			}
			require.NoError(t, g.command(x.then))
		})
	}
}

// What keeps rows from being copied into tables that are there is told once, and the statements
// that it prints remove it.
func TestTablesThatDoNotFitAreMadeToFitAsItIsPrinted(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct{ made, says string }{
		"rows":             {`CREATE TABLE public.a (id int PRIMARY KEY, "B b" numeric(5,2)); INSERT INTO public.a VALUES (7, 1)`, "1 tables of the target hold rows, such as public.a"},
		"no column":        {`CREATE TABLE public.a (id int PRIMARY KEY)`, "the target's table public.a has no column B b"},
		"generated column": {`CREATE TABLE public.a (id int PRIMARY KEY, "B b" numeric(5,2) GENERATED ALWAYS AS (id + 1) STORED)`, "the target's table public.a generates column B b, which the source's does not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newLeftoverFixture(t)
			pgtest.Exec(t, pgtest.Conn(t, g.source), `ALTER TABLE public.a ADD COLUMN "B b" numeric(5,2)`)
			target := pgtest.Conn(t, g.target)
			pgtest.Exec(t, target, x.made)
			err := g.command("crossfade copy --data-only")
			require.ErrorContains(t, err, x.says)
			require.Equal(t, 1, strings.Count(err.Error(), "on the target: "))
			apptest.Typed(t, target, err.Error(), "target")
			require.NoError(t, g.command("crossfade copy --data-only"))
			require.Equal(t, "1", pgtest.Value(t, target, "SELECT string_agg(id::text, ' ') FROM public.a"))
		})
	}
}

// A command that meets another process says which, and goes on when that has ended.
func TestACommandThatMeetsAnotherProcessGoesOnWhenThatHasEnded(t *testing.T) {
	t.Parallel()
	g := newLeftoverFixture(t)
	g.hold("r1", string(machine.Idle), "r1", journal.PhaseStarted, runs.ModeRun, "")
	other := pgtest.Conn(t, g.source)
	require.NoError(t, journal.Lead(t.Context(), other))
	err := g.command("crossfade recover")
	require.ErrorContains(t, err, "source: another Crossfade process works on this database: server process ")
	require.ErrorContains(t, err, "stop it first, or wait until its session has ended")
	require.ErrorContains(t, err, "a running daemon does by itself what is to be done: look at crossfade status")
	require.Equal(t, 1, strings.Count(err.Error(), "another Crossfade process"))
	require.NoError(t, other.Close(context.Background()))
	require.NoError(t, g.command("crossfade recover"))
}

// Two databases that are no pair are refused by each command, which is content with those of one
// run.
func TestDatabasesOfDifferentRunsAreRefusedUntilThoseOfOneAreNamed(t *testing.T) {
	t.Parallel()
	g, other := newLeftoverFixture(t), newLeftoverFixture(t)
	g.hold("r1", string(machine.Idle), "r1", journal.PhaseStarted, runs.ModeRun, "")
	other.hold("r2", string(machine.Idle), "r2", journal.PhaseStarted, runs.ModeRun, "")
	mixed := &leftoverFixture{t: t, source: g.source, target: other.target}
	for _, command := range []string{"crossfade run", "crossfade copy", "crossfade recover", "crossfade clean"} {
		err := mixed.command(command)
		require.ErrorContains(t, err, "hold different runs of Crossfade: name the two databases of one run", command)
		require.Equal(t, 1, strings.Count(err.Error(), "name the two databases"), command)
	}
	bare := &leftoverFixture{t: t, source: g.source, target: pgtest.Database(t, pgtest.Shared(t, pgtest.Target))}
	require.ErrorContains(t, bare.command("crossfade recover"), "does not: name the two databases of one run")
	exchanged := &leftoverFixture{t: t, source: g.target, target: g.source}
	for _, command := range []string{"crossfade run", "crossfade copy", "crossfade recover", "crossfade clean"} {
		err := exchanged.command(command)
		require.ErrorContains(t, err, "--source and --target are exchanged", command)
		require.Equal(t, 1, strings.Count(err.Error(), "exchanged"), command)
	}
	for _, x := range []*leftoverFixture{g, other} { // those of one run, each where it belongs
		require.NoError(t, x.command("crossfade recover"))
		require.NoError(t, x.command("crossfade run"))
		require.NoError(t, x.command("crossfade clean"))
	}
}

// found is what a check tells of a run or copy that is there, "" for nothing.
func (g *leftoverFixture) found() string {
	g.t.Helper()
	report, err := check.Run(g.t.Context(), options.Run{Source: g.source, Target: g.target}, nil)
	require.NoError(g.t, err)
	said := ""
	for _, f := range report.Findings {
		if f.Code == "left_over_run" {
			require.Empty(g.t, said, "it is told once")
			said = f.String()
		}
	}
	return said
}

// What a check tells of a run or a copy that is there is removed by what it prints.
func TestWhatACheckTellsOfARunIsRemovedAsItIsPrinted(t *testing.T) {
	t.Parallel()
	idle, fenced, decided, finished := string(machine.Idle), string(machine.Fenced), string(machine.Decided), string(machine.Finished)
	for name, x := range map[string]struct {
		left  func(*leftoverFixture)
		led   string // the side whose lock another process has
		says  string
		typed string
	}{
		"a run that can go on":  {func(g *leftoverFixture) { g.hold("r1", idle, "r1", journal.PhaseIndexed, runs.ModeRun, "") }, "", "keeps what was copied; or to give it up", "crossfade clean"},
		"a run that is led":     {func(g *leftoverFixture) { g.hold("r1", idle, "r1", journal.PhaseIndexed, runs.ModeRun, "") }, "source", "and it needs nothing more; to give it up stop it, then: ", "crossfade clean"},
		"a copy that is led":    {func(g *leftoverFixture) { g.hold("", "", "r1", journal.PhaseStarted, runs.ModeCopy, "") }, "target", "wait for its end; or to give it up stop it, then: ", "crossfade clean"},
		"an attempt to switch":  {func(g *leftoverFixture) { g.hold("r1", fenced, "r1", journal.PhaseIndexed, runs.ModeRun, "") }, "", "ends the attempt alone; or to give it up: ", "crossfade clean"},
		"another target":        {func(g *leftoverFixture) { g.hold("r1", idle, "", "", "", "") }, "", "or remove what it left on the source, so that it cannot continue: ", "crossfade clean"},
		"nothing on the source": {func(g *leftoverFixture) { g.hold("", "", "r1", journal.PhaseIndexed, runs.ModeRun, "") }, "", "where that holds nothing of it any more: ", "crossfade clean"},
		"kept closed":           {func(g *leftoverFixture) { g.hold("r1", finished, "", "", "", "") }, "", "name another source; or open this one: ", "crossfade clean --force"},
		"finished":              {func(g *leftoverFixture) { g.hold("r1", finished, "r1", journal.PhaseFinished, runs.ModeRun, "") }, "", "what serving it needs after run r1", "crossfade clean"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newLeftoverFixture(t)
			x.left(g)
			var other *pgx.Conn
			if x.led != "" {
				other = pgtest.Conn(t, map[string]pg.DSN{"source": g.source, "target": g.target}[x.led])
				require.NoError(t, journal.Lead(t.Context(), other))
			}
			said := g.found()
			require.Contains(t, said, x.says)
			if other != nil {
				require.NoError(t, other.Close(context.Background())) // it is stopped
			}
			require.NoError(t, g.command(commandOf(t, said, x.typed)), said)
			require.NotContains(t, g.found(), x.says)
		})
	}

	g, right := newLeftoverFixture(t), newLeftoverFixture(t)
	g.hold("r1", decided, "", "", "", "")
	said := g.found()
	require.Contains(t, said, "which was switched to another target than this")
	require.Contains(t, said, "name the target of that run: it is the active side")
	right.source = g.source
	s := pgtest.Conn(t, g.source)
	require.NoError(t, journal.Uninstall(t.Context(), s))
	right.hold("r1", decided, "r1", journal.PhaseSwitched, runs.ModeRun, "")
	require.NotContains(t, right.found(), "name the target of that run")

	for _, side := range []string{"source", "target"} {
		g := newLeftoverFixture(t)
		conn := pgtest.Conn(t, map[string]pg.DSN{"source": g.source, "target": g.target}[side])
		for i, sql := range []string{"CREATE SCHEMA crossfade; CREATE TABLE crossfade.run (id int)", "CREATE SCHEMA crossfade; CREATE TABLE crossfade.orders (id int)"} {
			pgtest.Exec(t, conn, sql)
			is := "the " + side + " has a schema crossfade that holds no run"
			said := g.found()
			require.Contains(t, said, is)
			for _, command := range []string{"crossfade run", "crossfade copy", "crossfade recover", "crossfade clean"} {
				err := g.command(command)
				if side == "target" && command == "crossfade recover" && err == nil {
					continue // the source says all
				}
				require.ErrorContains(t, err, is, command)
				require.Equal(t, 1, strings.Count(err.Error(), is), command)
			}
			apptest.Typed(t, conn, said, side)
			require.Empty(t, g.found())
			pgtest.Exec(t, conn, fmt.Sprintf("ALTER SCHEMA another_name RENAME TO kept_%d", i))
		}
		require.NoError(t, g.command("crossfade recover"))
	}
}
