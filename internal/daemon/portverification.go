package daemon

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover"
	"crossfade/internal/pg"
	"crossfade/replicate/verify"
)

// verification is cutover.Verification: a comparison of two frozen equals in the
// background of the switched traffic (C19).
type verification struct {
	source, target pg.DSN
	tables         func() []verify.Table
	log            zerolog.Logger

	mu     sync.Mutex
	frozen *verify.Frozen
	stop   context.CancelFunc // of a comparison under way
	done   chan struct{}
	run    *verify.Verifier
	state  cutover.VerificationStatus
}

// Open implements cutover.Verification.
func (v *verification) Open(ctx context.Context, _ int64) error {
	if err := v.Discard(ctx); err != nil {
		return err
	}
	connect := func(d pg.DSN) func(context.Context) (*pgx.Conn, error) {
		return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, d, pg.WithName("verify")) }
	}
	f, err := verify.Freeze(ctx, connect(v.source), connect(v.target))
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.frozen = f
	v.mu.Unlock()
	return nil
}

// Start implements cutover.Verification.
func (v *verification) Start(ctx context.Context, _ int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.frozen == nil {
		v.state = cutover.VerificationStatus{State: "not_provable"}
		return errors.New("no snapshots were opened in the pause: the tables of that moment cannot be compared any more")
	}
	run, err := verify.New(verify.Config{Tables: v.tables(), Log: v.log})
	if err != nil {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	v.stop, v.done, v.run = stop, make(chan struct{}), run
	v.state = cutover.VerificationStatus{State: "running", TablesTotal: len(v.tables())}
	go v.compare(background, run, v.frozen, v.done)
	v.frozen = nil
	return nil
}

func (v *verification) compare(ctx context.Context, run *verify.Verifier, f *verify.Frozen, done chan struct{}) {
	defer close(done)
	defer f.Close()
	report, err := run.Run(ctx, f)
	s := run.Status()
	state := cutover.VerificationStatus{State: "equal", TablesDone: s.TablesDone, TablesTotal: s.TablesTotal, Differences: s.Differences}
	switch {
	case s.Differences > 0:
		state.State = "different"
	case err != nil || s.NotProvable > 0:
		state.State = "not_provable"
	}
	for _, r := range report.Tables {
		if r.Verdict != verify.Equal {
			v.log.Error().Str("relation", r.Name.Display()).Str("verdict", string(r.Verdict)).Str("reason", r.Reason).Msg("table is not proved equal")
		}
	}
	if err != nil && ctx.Err() == nil {
		v.log.Error().Err(err).Msg("comparison stopped")
	}
	v.mu.Lock()
	v.state, v.run = state, nil
	v.mu.Unlock()
}

// Discard implements cutover.Verification.
func (v *verification) Discard(context.Context) error {
	v.mu.Lock()
	f, stop, done := v.frozen, v.stop, v.done
	v.frozen, v.stop, v.done = nil, nil, nil
	v.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	if f != nil {
		f.Close()
	}
	return nil
}

// Status implements cutover.Verification.
func (v *verification) Status() cutover.VerificationStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.run != nil {
		s := v.run.Status()
		v.state.TablesDone, v.state.TablesTotal, v.state.Differences = s.TablesDone, s.TablesTotal, s.Differences
	}
	if v.state.State == "" {
		v.state.State = "none"
	}
	return v.state
}
