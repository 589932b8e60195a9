package ports

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/cutover"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/verify"
)

const (
	// reopenPatience bounds how long a start keeps applications waiting for the snapshots
	// that it opens before they reach the target.
	reopenPatience = 2 * time.Second
	// proofPatience bounds one question to the journal of what was proved.
	proofPatience = 10 * time.Second
	// proofRetry is the longest pause before an interrupted comparison continues: it is not urgent,
	// and the interruption may last.
	proofRetry = 15 * time.Second
)

// Verification is cutover.Verification: a comparison of two frozen equals in the background of the
// switched traffic (C19). The result for a table is written to the journal at once (C27). A start
// after the decision reads that, and continues the rest with new snapshots: the source is
// unchanged, since its fence is closed, and the decision has recorded what the target's snapshot
// saw.
type Verification struct {
	Source, Target pg.DSN
	Tables         func(context.Context) ([]verify.Table, error)
	Path           func() string // search_path for reading rows, known when tables are; nil or "" for none
	Journal        *dbconn.Link  // to the target
	// GiveWay, if set, stops other comparisons; it is called before a pause.
	GiveWay func(ctx context.Context) error
	Log     zerolog.Logger

	mu      sync.Mutex
	ready   [2]*pgx.Conn // to source and target, for the next snapshots; nil for none
	frozen  *verify.Frozen
	late    bool               // frozen was opened after the decision
	stop    context.CancelFunc // of a comparison under way
	done    chan struct{}
	state   cutover.VerificationStatus
	begun   time.Time                 // when the comparison under way began
	rest    []pg.Name                 // tables that it covers
	waits   string                    // why a comparison under way does not continue
	found   map[pg.Name]journal.Proof // of this epoch
	unsaved []journal.Proof
}

// Start implements cutover.Verification.
func (v *Verification) Start(ctx context.Context, epoch int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, all := v.found[pg.Name{}]; all || v.stop != nil {
		return nil
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	v.stop, v.done = stop, make(chan struct{})
	v.state.State = "running"
	go v.prove(background, epoch, v.done)
	return nil
}

// prove compares what is not proved yet, with new snapshots where those that it has are
// lost, until every table is judged or ctx ends.
func (v *Verification) prove(ctx context.Context, epoch int64, done chan struct{}) {
	defer close(done)
	err := retry.Do(ctx, retry.Policy{Max: proofRetry, OnRetry: obs.Retrying(v.Log, "the comparison continues")}, func(ctx context.Context) error {
		err := v.attempt(ctx, epoch)
		v.mu.Lock()
		v.waits = ""
		if err != nil {
			v.waits = err.Error()
		}
		v.mu.Unlock()
		return err
	})
	if err != nil && ctx.Err() == nil {
		v.Log.Error().Err(err).Msg("comparison stopped")
	}
}

// attempt is one comparison of the tables that are left.
func (v *Verification) attempt(ctx context.Context, epoch int64) error {
	if err := v.remember(ctx, epoch); err != nil {
		return err
	}
	if v.Ended() {
		return nil
	}
	tables, err := v.Tables(ctx)
	if err != nil {
		return err
	}
	v.mu.Lock()
	has := v.frozen != nil
	v.state.TablesTotal = len(tables)
	v.mu.Unlock()
	if !has {
		if err := v.freeze(ctx, true); err != nil {
			return err
		}
	}
	v.mu.Lock()
	f, late := v.frozen, v.late
	v.frozen = nil
	tables = slices.DeleteFunc(tables, func(t verify.Table) bool { _, ok := v.found[t.Name]; return ok })
	v.begun, v.rest = time.Now(), lists.Map(tables, func(t verify.Table) pg.Name { return t.Name })
	v.mu.Unlock()
	defer f.Close()
	cfg := verify.Config{Tables: tables, Log: v.Log, Settled: func(r verify.Result) { v.settled(ctx, epoch, r) }}
	if v.Path != nil {
		cfg.SearchPath = v.Path()
	}
	if late {
		seen, err := askProofs(ctx, v, func(ctx context.Context, conn *pgx.Conn) (pg.Snapshot, error) {
			return journal.DecisionSaw(ctx, conn, epoch)
		})
		if err != nil {
			return err
		}
		cfg.Since = &seen
	}
	run, err := verify.New(cfg)
	if err != nil {
		return retry.Permanent(err)
	}
	if _, err = run.Run(ctx, f); err != nil {
		return errors.New(err.Error()) // without its mark: what ends one comparison does not end the next
	}
	return v.whole(ctx, epoch)
}

// askProofs asks the journal of what was proved.
func askProofs[T any](ctx context.Context, v *Verification, f func(ctx context.Context, conn *pgx.Conn) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, proofPatience)
	defer cancel()
	return dbconn.Ask(ctx, v.Journal, f)
}

// remember reads what an earlier start has proved, once.
func (v *Verification) remember(ctx context.Context, epoch int64) error {
	v.mu.Lock()
	known := v.found != nil
	v.mu.Unlock()
	if known {
		return nil
	}
	proofs, err := askProofs(ctx, v, func(ctx context.Context, conn *pgx.Conn) ([]journal.Proof, error) {
		return journal.LoadProofs(ctx, conn, epoch)
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found = lists.By(proofs, func(p journal.Proof) pg.Name { return p.Table })
	v.count()
	return nil
}

// count makes the figures of what was found, and the verdict on all once that is known.
// Called with mu locked.
func (v *Verification) count() {
	all, ended := v.found[pg.Name{}]
	v.state.TablesDone, v.state.Differences = len(v.found), 0
	if ended {
		v.state.TablesDone--
		v.state.TablesTotal, v.state.State = v.state.TablesDone, all.Verdict
	}
	for name, p := range v.found {
		if name != (pg.Name{}) && p.Verdict == string(verify.Different) {
			v.state.Differences++
		}
	}
}

// Ended reports whether every table has been judged.
func (v *Verification) Ended() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.found[pg.Name{}]
	return ok
}

// settled takes what was found of one table, and puts it into the journal. What cannot be
// written now is written with what comes next.
func (v *Verification) settled(ctx context.Context, epoch int64, r verify.Result) {
	p := journal.Proof{Table: r.Name, Verdict: string(r.Verdict), Reason: r.Reason, SourceRows: r.FromRows, TargetRows: r.ToRows}
	for _, d := range r.Keys {
		p.Keys = append(p.Keys, d.String())
	}
	if r.Verdict != verify.Equal {
		v.Log.Error().Str(obs.KeyRelation, r.Name.Display()).Str("verdict", p.Verdict).Str("reason", p.Reason).Strs("keys", p.Keys).Msg("table is not proved equal")
	}
	v.mu.Lock()
	v.found[r.Name] = p
	v.unsaved = append(v.unsaved, p)
	v.count()
	v.mu.Unlock()
	if err := v.save(ctx, epoch); err != nil && ctx.Err() == nil {
		v.Log.Warn().Err(err).Msg("what was proved is recorded later")
	}
}

func (v *Verification) save(ctx context.Context, epoch int64) error {
	ctx, cancel := context.WithTimeout(ctx, proofPatience)
	defer cancel()
	return v.Journal.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		v.mu.Lock()
		unsaved := slices.Clone(v.unsaved)
		v.mu.Unlock()
		if len(unsaved) == 0 {
			return nil
		}
		if err := journal.SaveProofs(ctx, conn, epoch, unsaved); err != nil {
			return err
		}
		v.mu.Lock()
		v.unsaved = v.unsaved[len(unsaved):]
		v.mu.Unlock()
		return nil
	})
}

// whole records that every table has been judged, and the verdict on all of them.
func (v *Verification) whole(ctx context.Context, epoch int64) error {
	verdict := "equal"
	for _, p := range v.Unproved() {
		if p.Verdict == string(verify.Different) {
			verdict = "different"
			break
		}
		verdict = "not_provable"
	}
	v.mu.Lock()
	v.unsaved = append(v.unsaved, journal.Proof{Verdict: verdict})
	v.mu.Unlock()
	if err := v.save(ctx, epoch); err != nil {
		v.mu.Lock()
		v.unsaved = slices.DeleteFunc(v.unsaved, func(p journal.Proof) bool { return p.Table == pg.Name{} })
		v.mu.Unlock()
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found[pg.Name{}] = journal.Proof{Verdict: verdict}
	v.count()
	v.Log.Info().Str("verdict", verdict).Int("tables", v.state.TablesTotal).Msg("both sides were compared")
	return nil
}

// Unproved lists the tables that are known to differ or that cannot be compared, by name.
func (v *Verification) Unproved() []journal.Proof {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []journal.Proof
	for name, p := range v.found {
		if name != (pg.Name{}) && p.Verdict != string(verify.Equal) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b journal.Proof) int { return cmp.Compare(a.Table.Display(), b.Table.Display()) })
	return all
}

const (
	// paceAfter is how long a comparison has to be under way before its pace tells anything.
	paceAfter = 2 * time.Second
	// paceShare is the share of its bytes, one in so many, that has to be done before.
	paceShare = 50
)

// Left is how long the comparison under way will still take at its present pace; false if that is
// not known. sizes are the sizes of the tables.
func (v *Verification) Left(sizes map[pg.Name]int64) (time.Duration, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var done, rest int64
	for _, t := range v.rest {
		if _, ok := v.found[t]; ok {
			done += max(sizes[t], 1)
		} else {
			rest += max(sizes[t], 1)
		}
	}
	passed := time.Since(v.begun)
	if v.begun.IsZero() || passed < paceAfter || done == 0 || done < (done+rest)/paceShare {
		return 0, false
	}
	return max(time.Duration(float64(passed)*float64(rest)/float64(done)).Round(time.Second), time.Second), true
}

// Waiting says why a comparison under way does not continue, "" if it does.
func (v *Verification) Waiting() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.waits
}

// Discard implements cutover.Verification.
func (v *Verification) Discard(context.Context) error {
	v.End()
	v.forget()
	return nil
}

// forget forgets what was found.
func (v *Verification) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state, v.found, v.unsaved, v.waits = cutover.VerificationStatus{}, nil, nil, ""
}

// End stops a comparison under way and lets snapshots and sessions go. What was found stays.
func (v *Verification) End() {
	v.halt()
	v.closeReady()
}

// halt stops a comparison under way and lets the snapshots go.
func (v *Verification) halt() {
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
}

// Status implements cutover.Verification.
func (v *Verification) Status() cutover.VerificationStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.State = cmp.Or(v.state.State, "none")
	return v.state
}
