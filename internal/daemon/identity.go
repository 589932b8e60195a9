package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight"
	"crossfade/internal/journal"
	"crossfade/internal/pg"
)

// identity is what ties the two databases of a run together.
type identity struct {
	source *journal.SourceRun
	target *journal.TargetRun
	fresh  bool // made by this start
}

// systemIdentifier returns the number that initdb gave the cluster, without
// asking for more rights than a walsender has.
func systemIdentifier(ctx context.Context, source pg.DSN) (string, error) {
	conn, err := pg.ConnectReplication(ctx, source, pg.WithName("identify"))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	res, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return "", fmt.Errorf("identify the source's cluster: %w", err)
	}
	if len(res) != 1 || len(res[0].Rows) != 1 || len(res[0].Rows[0]) < 1 {
		return "", errors.New("identify the source's cluster: the server gave no row")
	}
	return string(res[0].Rows[0][0]), nil
}

// findRun reads both journals and refuses databases that do not belong
// together. Without a run on either side it returns an identity with two nils.
func findRun(ctx context.Context, source, target *pgx.Conn, sourceDSN, targetDSN pg.DSN) (identity, error) {
	s, err := journal.LoadSource(ctx, source)
	if err != nil {
		return identity{}, err
	}
	t, err := journal.LoadTarget(ctx, target)
	if err != nil {
		return identity{}, err
	}
	switch {
	case s == nil && t != nil && t.Phase.AtLeast(journal.PhaseSwitched):
		// A finish that was cut short: the target is the active side.
		return identity{target: t}, nil
	case s != nil && t == nil:
		return identity{}, fmt.Errorf("%s holds a run of Crossfade, %s does not: name the target of that run, or remove what it left with: crossfade clean",
			sourceDSN.Redacted(), targetDSN.Redacted())
	case s == nil && t != nil && t.Phase != journal.PhaseStarted && t.Mode == modeRun:
		return identity{}, fmt.Errorf("%s holds a run of Crossfade, %s does not: name the source of that run, or remove what it left with: crossfade clean",
			targetDSN.Redacted(), sourceDSN.Redacted())
	case s != nil && s.RunID != t.RunID:
		return identity{}, fmt.Errorf("%s and %s hold different runs of Crossfade: name the two databases of one run, or remove what is left with: crossfade clean",
			sourceDSN.Redacted(), targetDSN.Redacted())
	}
	return identity{source: s, target: t}, nil
}

// The modes of a run.
const (
	modeRun  = string(preflight.Run)
	modeCopy = string(preflight.Copy)
)

// install makes the schema crossfade on both sides, the target's first: a run
// row on the target alone, in its first phase, is a start that was cut short
// and is finished here.
func install(ctx context.Context, source, target *pgx.Conn, id *identity, sourceDSN pg.DSN, mode, options string) error {
	if id.target == nil {
		system, err := systemIdentifier(ctx, sourceDSN)
		if err != nil && mode == modeRun {
			return err
		}
		run := strings.ToLower(rand.Text()[:10])
		t := journal.TargetRun{RunID: run, Key: rand.Text(), Mode: mode, Options: options, SourceSystem: system, SourceDatabase: sourceDSN.Database(),
			Slot: journal.SlotPrefix + run}
		if err := journal.InstallTarget(ctx, target, t); err != nil {
			return fmt.Errorf("on the target: %w", err)
		}
		if id.target, err = journal.LoadTarget(ctx, target); err != nil {
			return err
		}
		id.fresh = true
	}
	if id.source == nil && mode == modeRun {
		s := journal.SourceRun{RunID: id.target.RunID, Key: id.target.Key}
		if err := journal.InstallSource(ctx, source, s); err != nil {
			return fmt.Errorf("on the source: %w", err)
		}
		var err error
		if id.source, err = journal.LoadSource(ctx, source); err != nil {
			return err
		}
		id.fresh = true
	}
	return nil
}

// checkSystem refuses a source that is not the cluster that the run began with:
// its log positions would mean something else.
func checkSystem(ctx context.Context, id identity, source pg.DSN) error {
	system, err := systemIdentifier(ctx, source)
	if err != nil {
		return err
	}
	if system != id.target.SourceSystem || source.Database() != id.target.SourceDatabase {
		return fmt.Errorf("%s is not the database that this run began with (cluster %s, database %q): name that one, or begin anew after: crossfade clean",
			source.Redacted(), id.target.SourceSystem, id.target.SourceDatabase)
	}
	return nil
}
