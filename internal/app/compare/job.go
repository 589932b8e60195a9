package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/verify"
)

const (
	// Sample is how many keys of a table are named.
	Sample = 100
	// attemptPatience bounds how long a comparison is tried again after connections were lost.
	attemptPatience = 10 * time.Minute
	// journalPatience bounds one statement of the journal.
	journalPatience = 10 * time.Second
	// paceAfter is how long a comparison has to be under way before its pace tells anything.
	paceAfter = 2 * time.Second
)

// ErrStopped is the end of a comparison that an operator has stopped.
var ErrStopped = errors.New("the comparison was stopped by crossfade verify --cancel")

// Config says what a Job compares, and how.
type Config struct {
	Direction   string // as in the source's run row
	From, To    *dbconn.Link
	Pair        func(waits func(string)) func(ctx context.Context) (*verify.Frozen, error)
	Tables      func(ctx context.Context) ([]verify.Table, error)
	Path        func() string // search_path for reading rows
	Sizes       func() map[pg.Name]int64
	LateChecks  func() []string // names of check constraints that the side that follows gets with the decision
	Journal     *dbconn.Link
	MaxAge      time.Duration // of a round: an older one that was interrupted is begun again; 0 for any
	LockTimeout time.Duration // longest wait that a lock of ours may cause
	Log         zerolog.Logger
}

// Job compares both sides while one follows the other, one round at a time. Its methods are safe for
// concurrent use.
type Job struct {
	cfg   Config
	asked chan *run

	mu     sync.Mutex // guards what follows
	known  bool       // last has been read
	last   *journal.Round
	found  []journal.Found       // of last
	ended  *control.VerifyReport // of the last round that was completed
	now    *run                  // nil for none
	halted string                // why the last round was interrupted
}

// run is a round that was asked for. report and err may be read once done is closed.
type run struct {
	done   chan struct{}
	report control.VerifyReport
	err    error
	stop   context.CancelCauseFunc
	ctx    context.Context // ended by stop

	// Guarded by the Job's mu.
	begun  time.Time // of the reading
	before int       // tables that were done before
	total  int
	round  *verify.Round
	waits  string
}

// New returns a Job, which compares while Run runs.
func New(cfg Config) *Job { return &Job{cfg: cfg, asked: make(chan *run, 1)} }

// Run reads what the last round has found, and then makes the rounds that are asked for, until ctx
// ends. It returns nil.
func (j *Job) Run(ctx context.Context) error {
	defer j.refuseAsked(ctx)
	_ = retry.Do(ctx, retry.Policy{}, j.remember) // which tries until ctx ends
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-j.asked:
			j.make(ctx, r)
		}
	}
}

// refuseAsked answers a request that nobody takes any more.
func (j *Job) refuseAsked(ctx context.Context) {
	select {
	case r := <-j.asked:
		j.end(r, control.VerifyReport{}, ctx.Err())
	default:
	}
}

func (j *Job) remember(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, journalPatience)
	defer cancel()
	return j.cfg.Journal.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		last, found, err := journal.LastRound(ctx, conn, j.cfg.Direction, false)
		if err != nil {
			return err
		}
		completed, was, err := journal.LastRound(ctx, conn, j.cfg.Direction, true)
		if err != nil {
			return err
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.known, j.last, j.found = true, last, found
		if completed != nil {
			r := reportOf(*completed, was)
			j.ended = &r
		}
		return nil
	})
}

// Verify has both sides compared, or joins the comparison that is under way, and returns its report.
// When ctx ends it returns, and the comparison continues.
func (j *Job) Verify(ctx context.Context) (control.VerifyReport, error) {
	r := j.ask()
	select {
	case <-r.done:
		return r.report, r.err
	case <-ctx.Done():
		return control.VerifyReport{}, ctx.Err()
	}
}

func (j *Job) ask() *run {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.now == nil {
		r := &run{done: make(chan struct{})}
		r.ctx, r.stop = context.WithCancelCause(context.Background())
		j.now = r
		j.asked <- r // Run has taken the one before
	}
	return j.now
}

// Stop ends the comparison under way, for the reason why, and returns when it lets the databases go.
// It reports whether there was one.
func (j *Job) Stop(ctx context.Context, why error) (stopped bool, err error) {
	j.mu.Lock()
	r := j.now
	j.mu.Unlock()
	if r == nil {
		return false, nil
	}
	r.stop(why)
	select {
	case <-r.done:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// make makes one round.
func (j *Job) make(ctx context.Context, r *run) {
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.ctx, func() { cancel(context.Cause(r.ctx)) })()
	report, err := j.round(bounded, r)
	if err != nil && bounded.Err() != nil {
		err = context.Cause(bounded)
	}
	if err != nil && ctx.Err() == nil {
		j.cfg.Log.Warn().Err(err).Msg("comparison interrupted")
	}
	j.end(r, report, err)
}

func (j *Job) end(r *run, report control.VerifyReport, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now, j.halted = nil, ""
	if r.report, r.err = report, err; err != nil {
		j.halted = err.Error()
	} else {
		j.ended = &report
	}
	r.stop(nil)
	close(r.done)
}

// round continues the last round, or makes a new one.
func (j *Job) round(ctx context.Context, r *run) (control.VerifyReport, error) {
	tables, err := j.cfg.Tables(ctx)
	if err != nil {
		return control.VerifyReport{}, err
	}
	if err := j.begin(ctx); err != nil {
		return control.VerifyReport{}, err
	}
	j.mu.Lock()
	r.total = len(tables)
	j.mu.Unlock()
	policy := retry.Policy{MaxElapsed: attemptPatience, OnRetry: obs.Retrying(j.cfg.Log, "the comparison continues")}
	err = retry.Do(ctx, policy, func(ctx context.Context) error {
		err := j.tables(ctx, r, tables)
		if err != nil && !snapshot.Passing(err) && !errors.Is(err, snapshot.ErrLost) {
			return retry.Permanent(err)
		}
		return err
	})
	if err != nil {
		return control.VerifyReport{}, err
	}
	rest, sequences, err := j.rest(ctx)
	if err != nil {
		return control.VerifyReport{}, err
	}
	return j.conclude(ctx, len(tables), sequences, rest)
}

// begin takes the last round up, or begins a new one.
func (j *Job) begin(ctx context.Context) error {
	j.mu.Lock()
	last := j.last
	j.mu.Unlock()
	if last != nil && last.Ended.IsZero() && (j.cfg.MaxAge == 0 || time.Since(last.Begun) < j.cfg.MaxAge) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, journalPatience)
	defer cancel()
	round, err := dbconn.Ask(ctx, j.cfg.Journal, func(ctx context.Context, conn *pgx.Conn) (journal.Round, error) {
		return journal.BeginRound(ctx, conn, j.cfg.Direction)
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last, j.found = &round, nil
	return nil
}

// tables compares the tables that the round has not compared yet.
func (j *Job) tables(ctx context.Context, r *run, tables []verify.Table) error {
	j.mu.Lock()
	done := lists.SetOf(j.found, func(f journal.Found) pg.Name { return f.Table })
	round := j.last.Number
	j.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(tables), func(t verify.Table) bool { return done[t.Name] })
	var unsaved error
	ctx, give := context.WithCancelCause(ctx)
	defer give(nil)
	cfg := verify.Config{Tables: left, Jobs: 1, Rest: verify.GentleRest, ChunkBytes: verify.GentleChunkBytes, Sample: Sample,
		LockTimeout: j.cfg.LockTimeout, SearchPath: j.cfg.Path(), Log: j.cfg.Log}
	cfg.Settled = func(result verify.Result) {
		if unsaved == nil {
			if unsaved = j.settled(ctx, round, result); unsaved != nil {
				give(unsaved) // what cannot be recorded would be read again anyway
			}
		}
	}
	waits := func(what string) {
		j.mu.Lock()
		defer j.mu.Unlock()
		r.waits = what
	}
	compared := &verify.Round{Config: cfg, Pair: j.cfg.Pair(waits), Sizes: j.cfg.Sizes()}
	j.mu.Lock()
	r.round, r.begun, r.before = compared, time.Now(), len(tables)-len(left)
	j.mu.Unlock()
	err := compared.Run(ctx)
	return cmp.Or(unsaved, err)
}

// settled records what was found of a table.
func (j *Job) settled(ctx context.Context, round int64, result verify.Result) error {
	f := foundOf(result)
	if f.Verdict != control.Equal {
		j.cfg.Log.Error().Str(obs.KeyRelation, f.Table.Display()).Str("verdict", f.Verdict).Str("reason", f.Reason).Strs("keys", f.Keys).Msg("table is not equal on both sides")
	}
	ctx, cancel := context.WithTimeout(ctx, journalPatience)
	defer cancel()
	err := j.cfg.Journal.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.SaveFound(ctx, conn, round, []journal.Found{f})
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.found = append(j.found, f)
	return nil
}

// rest compares sequences and definitions.
func (j *Job) rest(ctx context.Context) (found []journal.Found, sequences int, err error) {
	return dbconn.Ask2(ctx, j.cfg.From, j.cfg.To, func(ctx context.Context, from, to *pgx.Conn) ([]journal.Found, int, error) {
		return compareRest(ctx, from, to, &following{checks: j.cfg.LateChecks()})
	})
}

// conclude records that the round is complete.
func (j *Job) conclude(ctx context.Context, tables, sequences int, rest []journal.Found) (control.VerifyReport, error) {
	j.mu.Lock()
	round, found := *j.last, slices.Concat(j.found, rest)
	j.mu.Unlock()
	round.Tables, round.Sequences = tables, sequences
	round.Verdict = reportOf(round, found).Outcome
	ctx, cancel := context.WithTimeout(ctx, journalPatience)
	defer cancel()
	err := j.cfg.Journal.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return journal.EndRound(ctx, conn, &round, rest)
	})
	if err != nil {
		return control.VerifyReport{}, fmt.Errorf("keep the result of the comparison: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last, j.found = &round, found
	report := reportOf(round, found)
	j.cfg.Log.Info().Str("outcome", report.Outcome).Int("tables", tables).Int("sequences", sequences).Msg("both sides were compared")
	return report, nil
}
