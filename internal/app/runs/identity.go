package runs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
)

// Identity is what ties the two databases of a run together.
type Identity struct {
	Source *journal.SourceRun
	Target *journal.TargetRun
	Fresh  bool // made by this start
}

// SystemIdentifier returns the number that initdb gave the cluster, without
// asking for more rights than a walsender has.
func SystemIdentifier(ctx context.Context, source pg.DSN) (string, error) {
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

// Find reads both journals and refuses databases that do not belong
// together. Without a run on either side it returns an identity with two nils.
func Find(ctx context.Context, source, target *pgx.Conn, sourceDSN, targetDSN pg.DSN) (Identity, error) {
	s, err := journal.LoadSource(ctx, source)
	if err != nil {
		return Identity{}, err
	}
	t, err := journal.LoadTarget(ctx, target)
	if err != nil {
		return Identity{}, err
	}
	switch {
	case s == nil && t == nil:
		return Identity{}, refuseStrange(ctx, source, target)
	case s == nil && t != nil && t.Phase.AtLeast(journal.PhaseSwitched):
		// A finish that was cut short: the target is the active side.
		return Identity{Target: t}, nil
	case s != nil && t == nil:
		return Identity{}, fmt.Errorf("%s holds a run of Crossfade, %s does not: name the target of that run, or remove what it left with: crossfade clean",
			sourceDSN.Redacted(), targetDSN.Redacted())
	case s == nil && t != nil && t.Phase != journal.PhaseStarted && t.Mode == ModeRun:
		return Identity{}, fmt.Errorf("%s holds a run of Crossfade, %s does not: name the source of that run; or, where that is gone or holds nothing of it any more, remove what it left: crossfade clean --force",
			targetDSN.Redacted(), sourceDSN.Redacted())
	case s != nil && s.RunID != t.RunID:
		return Identity{}, fmt.Errorf("%s and %s hold different runs of Crossfade: name the two databases of one run",
			sourceDSN.Redacted(), targetDSN.Redacted())
	}
	return Identity{Source: s, Target: t}, nil
}

// The modes of a run.
const (
	ModeRun  = string(inquiry.Run)
	ModeCopy = string(inquiry.Copy)
)

// Install makes the schema crossfade on both sides, the target's first: a run row on the target
// alone, in its first phase, is a start that was cut short and is finished here.
func Install(ctx context.Context, source, target *pgx.Conn, id *Identity, sourceDSN pg.DSN, mode, options string) error {
	if id.Target == nil {
		system, err := SystemIdentifier(ctx, sourceDSN)
		if err != nil && mode == ModeRun {
			return err
		}
		run := strings.ToLower(rand.Text()[:10])
		t := journal.TargetRun{RunID: run, Key: rand.Text(), Mode: mode, Options: options, SourceSystem: system, SourceDatabase: sourceDSN.Database(),
			Slot: journal.SlotPrefix + run}
		if err := journal.InstallTarget(ctx, target, t); err != nil {
			return fmt.Errorf("on the target: %w", err)
		}
		if id.Target, err = journal.LoadTarget(ctx, target); err != nil {
			return err
		}
		id.Fresh = true
	}
	if id.Source == nil && mode == ModeRun {
		s := journal.SourceRun{RunID: id.Target.RunID, Key: id.Target.Key}
		if err := journal.InstallSource(ctx, source, s); err != nil {
			return fmt.Errorf("on the source: %w", err)
		}
		var err error
		if id.Source, err = journal.LoadSource(ctx, source); err != nil {
			return err
		}
		id.Fresh = true
	}
	return nil
}

// CheckSystem refuses a source that is not the cluster that the run began with:
// its log positions would mean something else.
func CheckSystem(ctx context.Context, id Identity, source pg.DSN) error {
	system, err := SystemIdentifier(ctx, source)
	if err != nil {
		return err
	}
	if system == id.Target.SourceSystem && source.Database() == id.Target.SourceDatabase {
		return nil
	}
	remedy := "name that one; or, where it is gone, start over: crossfade clean --force, then crossfade run"
	if id.Target.Phase.AtLeast(journal.PhaseSwitched) {
		remedy = "name that one; where it is gone, and the applications connect to the target directly: crossfade clean --force, which leaves the target's tables as they are"
	}
	return fmt.Errorf("%s is not the database that this run began with (cluster %s, database %q): %s",
		source.Redacted(), id.Target.SourceSystem, id.Target.SourceDatabase, remedy)
}

// IncarnationLetters of an incarnation tell two starts of a run apart, 30 bits of them.
const IncarnationLetters = 6

// predecessorPatience is how long a start waits for the sessions of the one before it to end: a
// server ends one within milliseconds, unless it is within a long write.
const predecessorPatience = 10 * time.Second

// EndPredecessors ends what an earlier start has left in both databases. A nil session is of a side
// that is away.
func EndPredecessors(ctx context.Context, log zerolog.Logger, run, incarnation string, source, target *pgx.Conn) error {
	for i, conn := range []*pgx.Conn{source, target} {
		if conn == nil {
			continue
		}
		side := [2]string{"source", "target"}[i]
		n, err := journal.EndPredecessors(ctx, conn, run, incarnation, i == 1, predecessorPatience)
		if n > 0 {
			log.Info().Str("side", side).Int("sessions", n).Msg("sessions of an earlier start were ended")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", side, err)
		}
	}
	return nil
}
