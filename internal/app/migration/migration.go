package migration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// migrationConfig says what is moved, and how.
type Config struct {
	Source, Target pg.DSN
	Identity       runs.Identity
	Phase          journal.Phase // what an earlier start has done
	Options        options.Copy  // of a one-shot copy; in a run what it has as well
	Jobs           int           // COPY streams at once
	ChunkBytes     int64         // 0 for the copy's own choice
	LockTimeout    time.Duration
	Waits          bool                 // for what an operator can fix, instead of ending with it
	Roles          map[string]string    // the source's role names to the target's
	Limit          *relay.Limiter       // of the copy; nil for none
	OnBlocked      func([]slot.Blocker) // told while the slot's creation waits, and with none when it does not; may be nil
	Log            zerolog.Logger
}

// Migration takes a run from its start to the stream: schema, copy, indexes. Each step is recorded
// on the target and may be begun again. Its parts share one lock, since what one of them reads
// together is of several.
type Migration struct {
	Task     *Task
	Schema   *Schema
	Findings *Findings
	Keys     *Keys
	Extras   *Extras
	Rows     *Rows
}

func New(cfg Config) *Migration {
	t := &Task{Config: cfg}
	f := &Findings{task: t}
	s := &Schema{task: t, findings: f}
	k := &Keys{task: t, findings: f, schema: s}
	e := &Extras{task: t, findings: f, schema: s}
	r := &Rows{task: t, findings: f, schema: s, extras: e}
	return &Migration{Task: t, Schema: s, Findings: f, Keys: k, Extras: e, Rows: r}
}

// Run brings the target to the phase indexed. With useSlot the copy begins at a
// replication slot; without, at a plain snapshot (the one-shot copy).
func (m *Migration) Run(ctx context.Context, useSlot bool) error {
	err := m.steps(ctx, useSlot)
	if table, ok := unbuildable(err); ok {
		if also := m.Rows.recopyTable(ctx, table); also != nil {
			err = fmt.Errorf("%w (%w)", err, also)
		}
	}
	return err
}

func (m *Migration) steps(ctx context.Context, useSlot bool) error {
	target, err := m.Task.ConnectTarget(ctx)
	if err != nil {
		return err
	}
	defer func() { dbconn.CloseNow(target) }()
	var held *snapshot.Holder
	defer func() {
		if held != nil {
			held.Close()
		}
	}()
	if !m.Task.Reached(journal.PhaseDumped) {
		if held, err = m.begin(ctx, target, useSlot); err != nil {
			return err
		}
	}
	if err := m.Schema.LoadPlan(ctx, target, held); err != nil {
		return err
	}
	if !m.Task.Reached(journal.PhasePrepared) {
		if err := m.preData(ctx, target); err != nil {
			return err
		}
	}
	if !m.Task.Reached(journal.PhaseIndexed) {
		return m.Rows.load(ctx, held)
	}
	return nil
}

// begin makes the publication and the slot and keeps the schema's archive, all
// seen by one snapshot, which it returns.
func (m *Migration) begin(ctx context.Context, target *pgx.Conn, useSlot bool) (*snapshot.Holder, error) {
	var held *snapshot.Holder
	var err error
	if useSlot {
		held, err = m.MakeSlot(ctx, target)
	} else {
		held, err = snapshot.Export(ctx, m.Task.ConnectSource)
	}
	if err != nil {
		return nil, err
	}
	var dumped []byte
	var kept journal.Definitions
	var both errgroup.Group // one snapshot shows both the same
	both.Go(func() (err error) {
		dumped, err = archive.Dump(ctx, m.Schema.Dumping(m.Task.Source, held.ID()))
		return err
	})
	both.Go(func() (err error) {
		kept, err = m.Schema.DefinitionsAt(ctx, held)
		return err
	})
	if err = both.Wait(); err != nil { // pg_dump's message does not say whether the source was away; its snapshot's session does
		err = errors.Join(err, held.Check(ctx))
	}
	if err == nil {
		kept.Archive = dumped
		err = journal.KeepDefinitions(ctx, target, kept)
	}
	if err != nil {
		held.Close()
		return nil, err
	}
	m.Task.Identity.Target.Archive, m.Task.Identity.Target.ArchiveNow, m.Task.Identity.Target.Digest, m.Task.Identity.Target.Roles = dumped, nil, kept.Digest, kept.Roles
	if err := m.Task.reach(ctx, target, journal.PhaseDumped); err != nil {
		held.Close()
		return nil, err
	}
	return held, nil
}

// preData restores what rows need, makes identity columns writable and closes the target's fence.
func (m *Migration) preData(ctx context.Context, target *pgx.Conn) error {
	if m.Task.Options.DataOnly {
		return m.Rows.openTables(ctx, target)
	}
	if err := m.prepareTarget(ctx, target); err != nil {
		return err
	}
	err := withAsyncCommit(ctx, target, func() error {
		if err := m.structure(ctx, target); err != nil {
			return err
		}
		m.Schema.withoutRefused()
		if err := restore.Run(ctx, target, plan.IdentityByDefault(m.Schema.catalog)); err != nil {
			return err
		}
		return m.Rows.shut(ctx, target)
	})
	if err != nil {
		return err
	}
	return m.Task.reach(ctx, target, journal.PhasePrepared)
}

// entriesEach is how many entries of the pre-data make one more session worth its login.
const entriesEach = 150

// structure restores the pre-data, with more sessions than the given one where there is much of it.
// Its commits are not waited for: those of all sessions come before the given one's next.
func (m *Migration) structure(ctx context.Context, target *pgx.Conn) error {
	more, closeAll, err := m.Task.sessions(ctx, max(min(m.Task.Jobs, len(m.Schema.Plan.PreData)/entriesEach)-1, 0))
	if err != nil {
		return err
	}
	defer closeAll()
	for _, conn := range more {
		if _, err := conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
			return err
		}
	}
	return m.Schema.Restore(ctx, plan.PreData, append([]*pgx.Conn{target}, more...))
}

// Last restores what follows the decision, and returns what the target refuses of it.
func (m *Migration) Last(ctx context.Context, conn *pgx.Conn) (refused []finding.Finding, err error) {
	r, err := m.Schema.restorePart(ctx, plan.Last, restore.Config{Conns: []*pgx.Conn{conn}, GoOn: true})
	if err != nil {
		return nil, err
	}
	source, err := m.Task.ConnectSource(ctx)
	if err != nil { // the target is active: the source may be gone
		m.Task.Log.Warn().Err(err).Msg("settings of roles are not carried over")
		return r.Refused, nil
	}
	defer dbconn.CloseNow(source)
	return r.Refused, m.roleSettings(ctx, source, conn)
}

// Task is what a run or a one-shot copy is to do between two databases, and how far it is.
type Task struct {
	Config            // whose Identity and Phase are under mu
	mu     sync.Mutex // of all parts
}

// sessions of the run: on the source plain, on the target with the run's key.
func (m *Task) ConnectSource(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.Source, pg.WithName("copy"))
}

func (m *Task) ConnectTarget(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.Target, pg.WithName("copy"), pg.WithKey(m.Identity.Target.Key))
}

// onTarget runs f with a session at the target.
func (m *Task) onTarget(ctx context.Context, f func(target *pgx.Conn) error) error {
	target, err := m.ConnectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(target)
	return f(target)
}

// onSource runs f with a session at the source, under a snapshot where one is held.
func (m *Task) onSource(ctx context.Context, held *snapshot.Holder, lockTimeout time.Duration, f func(source *pgx.Conn) error) error {
	source, err := m.ConnectSource(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(source)
	if held != nil {
		if err := held.Begin(ctx, source, lockTimeout); err != nil {
			return err
		}
	}
	return f(source)
}

// askSource is onSource for a question with one answer.
func askSource[T any](ctx context.Context, m *Task, held *snapshot.Holder, lockTimeout time.Duration,
	ask func(context.Context, *pgx.Conn) (T, error)) (answer T, err error) {
	err = m.onSource(ctx, held, lockTimeout, func(source *pgx.Conn) (err error) {
		answer, err = ask(ctx, source)
		return err
	})
	return answer, err
}

func (m *Task) SetPhase(p journal.Phase) {
	m.mu.Lock()
	m.Phase = p
	m.mu.Unlock()
}

// SetSwitched says that a decision has opened the target, and SetValid that it is whole since. A
// finish that did not wait for that has the last word.
func (m *Task) SetSwitched() { m.unlessFinished(journal.PhaseSwitched) }

// SetValid is described at SetSwitched.
func (m *Task) SetValid() { m.unlessFinished(journal.PhaseValid) }

func (m *Task) unlessFinished(p journal.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.Phase.AtLeast(journal.PhaseFinished) {
		m.Phase = p
	}
}

func (m *Task) Reached(p journal.Phase) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Phase.AtLeast(p)
}

// Consistent is the slot's consistent point.
func (m *Task) Consistent() pg.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Identity.Target.Consistent
}

func (m *Task) reach(ctx context.Context, conn *pgx.Conn, p journal.Phase) error {
	if err := journal.SetPhase(ctx, conn, p); err != nil {
		return err
	}
	m.SetPhase(p)
	m.Log.Info().Str(obs.KeyState, string(p)).Msg("phase reached")
	failpoint.Here("phase." + string(p))
	return nil
}

// Adopt takes what the target's journal says of the run.
func (m *Task) Adopt(id runs.Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Identity, m.Phase = id, id.Target.Phase
}
