package migration

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/options"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
)

// Task is what a run or a one-shot copy is to do between two databases, and how far it is.
type Task struct {
	Source, Target pg.DSN
	Options        options.Copy
	jobs           int
	lockTimeout    time.Duration
	Roles          map[string]string
	Log            zerolog.Logger

	mu       *sync.Mutex
	Identity runs.Identity
	Phase    journal.Phase
}

// sessions of the run: on the source plain, on the target with the run's key.
func (m *Task) ConnectSource(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.Source, pg.WithName("copy"))
}

func (m *Task) ConnectTarget(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.Target, pg.WithName("copy"), pg.WithKey(m.Identity.Target.Key))
}

func (m *Task) SetPhase(p journal.Phase) {
	m.mu.Lock()
	m.Phase = p
	m.mu.Unlock()
}

// SetValid says that the target is whole. A finish that did not wait for that has the last word.
func (m *Task) SetValid() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.Phase.AtLeast(journal.PhaseFinished) {
		m.Phase = journal.PhaseValid
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
