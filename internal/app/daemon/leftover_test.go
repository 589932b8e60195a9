package daemon

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/internal/app/check"
	"crossfade/internal/app/oneshot"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A check of databases that hold a run or a copy says which, how far it is and what continues it,
// once, and nothing of what that run has made.
func TestACheckSaysWhatGoesOnWithARunThatIsThere(t *testing.T) {
	t.Parallel()
	type side struct {
		run  string
		step string        // of the source
		at   journal.Phase // of the target
		mode string        // of the target
	}
	const both, goesOn, dropped = " --source DSN --target DSN", "crossfade run --source DSN --target DSN continues it", "drops all that it has copied"
	for name, x := range map[string]struct {
		source, target side
		led            bool
		says           []string
		not            []string
	}{
		"copying":                {source: side{run: "r1"}, target: side{run: "r1", at: journal.PhasePrepared}, says: []string{"run r1", "phase copying", goesOn, "crossfade clean" + both, dropped}, not: []string{"crossfade status"}},
		"caught up":              {source: side{run: "r1"}, target: side{run: "r1", at: journal.PhaseIndexed}, says: []string{"run r1", "phase following", goesOn, "crossfade clean" + both, dropped}},
		"led":                    {source: side{run: "r1"}, target: side{run: "r1", at: journal.PhaseIndexed}, led: true, says: []string{"run r1", "phase following", "server process", "crossfade status", "stop it", "crossfade clean" + both, dropped}, not: []string{goesOn}},
		"in a pause":             {source: side{run: "r1", step: string(machine.Fenced)}, target: side{run: "r1", at: journal.PhaseIndexed}, says: []string{"run r1", "phase fenced", goesOn, "crossfade recover" + both}},
		"switched":               {source: side{run: "r1", step: string(machine.Decided)}, target: side{run: "r1", at: journal.PhaseSwitched}, says: []string{"run r1", "phase on_target", goesOn, "crossfade finish"}, not: []string{"crossfade clean"}},
		"led, switched":          {source: side{run: "r1", step: string(machine.Decided)}, target: side{run: "r1", at: journal.PhaseSwitched}, led: true, says: []string{"run r1", "phase on_target", "crossfade status shows it, and crossfade finish ends it"}, not: []string{"crossfade clean"}},
		"switched, other target": {source: side{run: "r1", step: string(machine.Decided)}, says: []string{"the source holds run r1, which was switched to another target than this", "name the target of that run: it is the active side"}, not: []string{"crossfade clean"}},
		"finished":               {source: side{run: "r1", step: string(machine.Finished)}, target: side{run: "r1", at: journal.PhaseFinished}, says: []string{"run r1", "phase finished", "crossfade run" + both, "crossfade clean" + both}, not: []string{dropped}},
		"kept closed":            {source: side{run: "r1", step: string(machine.Finished)}, says: []string{"run r1", "finished", "closed", "crossfade clean --force" + both}, not: []string{dropped}},
		"cut short":              {target: side{run: "r1", at: journal.PhaseStarted}, says: []string{"run r1", goesOn}},
		"other target":           {source: side{run: "r1"}, says: []string{"the source holds run r1", "the target nothing of it", "name the target of that run", "crossfade clean" + both}},
		"other source":           {target: side{run: "r1", at: journal.PhaseIndexed}, says: []string{"the target holds run r1", "the source nothing of it", "name the source of that run"}},
		"different":              {source: side{run: "r1"}, target: side{run: "r2", at: journal.PhaseIndexed}, says: []string{"run r1", "run r2", "name the two databases of one run"}, not: []string{"crossfade clean"}},
		"copy":                   {target: side{run: "r1", at: journal.PhasePrepared, mode: runs.ModeCopy}, says: []string{"copy r1", "phase copying", "crossfade copy --no-acl" + both + " continues it", "crossfade clean" + both, dropped}},
		"copy, led":              {target: side{run: "r1", at: journal.PhasePrepared, mode: runs.ModeCopy}, led: true, says: []string{"copy r1", "server process", "stop it", "crossfade clean" + both}, not: []string{"continues it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, target := pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
			s, tg := pgtest.Conn(t, source), pgtest.Conn(t, target)
			for _, conn := range []*pgx.Conn{s, tg} {
				pgtest.Exec(t, conn, "CREATE TABLE public.a (id int PRIMARY KEY)")
			}
			lead := s
			if x.source.run != "" {
				require.NoError(t, journal.InstallSource(t.Context(), s, journal.SourceRun{RunID: x.source.run, Key: "k"}))
				pgtest.Exec(t, s, "UPDATE crossfade.run SET step = "+pg.QuoteLiteral(cmp.Or(x.source.step, string(machine.Idle))))
			}
			if x.target.run != "" {
				mode, options := cmp.Or(x.target.mode, runs.ModeRun), ""
				if mode == runs.ModeCopy {
					options, lead = "--no-acl", tg
				}
				require.NoError(t, journal.InstallTarget(t.Context(), tg, journal.TargetRun{RunID: x.target.run, Key: "k", Mode: mode, Options: options}))
				pgtest.Exec(t, tg, "UPDATE crossfade.run SET phase = "+pg.QuoteLiteral(string(x.target.at)))
			}
			if x.led {
				require.NoError(t, journal.Lead(t.Context(), lead))
			}
			report, err := check.Run(t.Context(), options.Run{Source: source, Target: target}, nil)
			require.NoError(t, err)
			require.Len(t, report.Findings, 1, "%v", report.Findings)
			require.Empty(t, report.Incomplete)
			require.Equal(t, "left_over_run", report.Findings[0].Code)
			said := report.Findings[0].String()
			for _, w := range x.says {
				require.Contains(t, said, w)
			}
			for _, w := range x.not {
				require.NotContains(t, said, w)
			}
		})
	}
}

// What else is in a database is no finding beside that it was named twice.
func TestOneDatabaseIsToldAloneWhereItHoldsARun(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, "CREATE TABLE public.a (id int PRIMARY KEY)")
	require.NoError(t, journal.InstallTarget(t.Context(), conn, journal.TargetRun{RunID: "r1", Key: "k", Mode: runs.ModeRun}))
	report, err := check.Run(t.Context(), options.Run{Source: dsn, Target: secondName(t, dsn)}, nil)
	require.NoError(t, err)
	require.Len(t, report.Findings, 1, "%v", report.Findings)
	require.Equal(t, "one_database", report.Findings[0].Code)
}

// A start that meets the other kind says what continues it, and what a clean drops.
func TestAStartThatMeetsTheOtherKindSaysWhatGoesOnWithIt(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	conn := pgtest.Conn(t, target)
	for mode, start := range map[string]func(context.Context) error{
		runs.ModeCopy: func(ctx context.Context) error { return Run(ctx, runConfig(t, source, target), zerolog.Nop(), nil) },
		runs.ModeRun: func(ctx context.Context) error {
			_, err := oneshot.Copy(ctx, source, target, options.Copy{Jobs: 1}, zerolog.Nop(), nil)
			return err
		},
	} {
		require.NoError(t, journal.InstallTarget(t.Context(), conn, journal.TargetRun{RunID: "r1", Key: "k", Mode: mode}))
		err := start(t.Context())
		require.ErrorContains(t, err, fmt.Sprintf("crossfade %s --source DSN --target DSN continues it", mode))
		require.ErrorContains(t, err, "drops all that it has copied")
		require.Equal(t, 1, strings.Count(err.Error(), "crossfade clean"))
		require.NoError(t, journal.Uninstall(t.Context(), conn))
	}
}
