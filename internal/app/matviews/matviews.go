package matviews

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/verify"
	"crossfade/schema/catalog"
	"crossfade/schema/restore"
)

const (
	// matViewPatience is how long a watcher waits for a view that was refreshed on the
	// source a moment ago: small ones are then as good as never pending.
	matViewPatience = time.Second
	// matViewArmingPatience is the same while a cutover is armed: the clients work on, and
	// to give up would end the attempt.
	matViewArmingPatience = 20 * time.Second
	// matViewPause is how long a view that could not be filled is left alone.
	matViewPause = 10 * time.Second
)

// Keeper keeps the contents of the target's materialised views as the source's
// are, for as long as no application reads them: each is filled again when it was
// refreshed on the source, emptied when it was emptied there, and its rows are compared
// with the source's. What the stream carries are tables only.
//
// The row of pg_class that a REFRESH leaves, concurrent or not, is a new one, so that its
// xmin says whether there was one, even if the rows are the same.
type Keeper struct {
	Source           *dbconn.Link // asked for what was refreshed
	OnSource, OnSide snapshot.Connect
	Views            func() []catalog.MatView // each after those that it reads
	May              func(asked bool) bool    // views of the target may be filled now; asked by a watcher
	Arming           func() bool              // a cutover is being armed
	CaughtUp         func(context.Context) error
	Path             func() string // search_path under which their queries are evaluated
	log              zerolog.Logger
	wake             chan struct{} // holds one token when a watcher waits

	mu      sync.Mutex
	settled map[uint32]settledView // by the oid on the source
	failed  map[uint32]failedView
	waited  map[uint32]string // version that a watcher has waited for already
}

// settledView says what a view of the target was made after.
type settledView struct {
	version string
	differs string // "" where the rows are the source's, else why that cannot be said
}

type failedView struct {
	err   error
	until time.Time // when it is tried again
}

// matViewState is a view on one side.
type matViewState struct {
	version   string
	populated bool
}

func New(log zerolog.Logger) *Keeper {
	return &Keeper{log: log, wake: make(chan struct{}, 1), settled: map[uint32]settledView{}, failed: map[uint32]failedView{}, waited: map[uint32]string{}}
}

const matViewVersions = `SELECT c.oid, pg_catalog.concat_ws(' ', c.xmin, c.relfilenode), c.relispopulated
	FROM pg_catalog.pg_class c WHERE c.relkind = 'm'`

// readMatViews reads the state of a side's views, by their oid there.
func readMatViews(ctx context.Context, conn *pgx.Conn) (map[uint32]matViewState, error) {
	states, err := pg.SelectMap(ctx, conn, func(oid *uint32, s *matViewState) []any {
		return []any{oid, &s.version, &s.populated}
	}, matViewVersions)
	return states, pg.Wrap(err, "read materialised views")
}

// Run follows the source's views until ctx ends. An error of one view is reported by the watcher
// and tried again.
func (m *Keeper) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	yielder := snapshot.NewYielder(m.OnSide)
	group.Go(func() error { return yielder.Run(ctx) })
	group.Go(func() error {
		tick := time.NewTicker(watch.PollInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if !m.May(false) {
					continue
				}
			case <-m.wake:
				if !m.May(true) {
					continue
				}
			}
			if err := m.round(ctx, yielder); err != nil && ctx.Err() == nil {
				m.log.Debug().Err(err).Msg("materialised views could not be checked")
			}
		}
	})
	return group.Wait()
}

// round brings every view that was refreshed on the source up to that.
func (m *Keeper) round(ctx context.Context, yielder *snapshot.Yielder) error {
	views := m.Views()
	if len(views) == 0 {
		return nil
	}
	states, err := dbconn.Ask(ctx, m.Source, readMatViews)
	if err != nil {
		return err
	}
	for _, v := range views {
		state, there := states[v.OID]
		if known, again := m.pending(v, state); !there || !again {
			continue
		} else if err := m.settle(ctx, yielder, v, state, known); err != nil && ctx.Err() == nil {
			m.log.Warn().Err(err).Str("relation", v.Name().Display()).Msg("a materialised view is not filled yet")
			m.mu.Lock()
			m.failed[v.OID] = failedView{err, time.Now().Add(matViewPause)}
			m.mu.Unlock()
		}
	}
	return nil
}

// pending reports whether a view is to be settled now, and whether that would be for
// the first time of this start.
func (m *Keeper) pending(v catalog.MatView, state matViewState) (known, again bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, known := m.settled[v.OID]
	return known, s.version != state.version && time.Now().After(m.failed[v.OID].until)
}

// settle gives a view of the target the contents that it has on the source. The first time its rows
// are compared before anything is done: an earlier start, or the copy, may have filled it.
func (m *Keeper) settle(ctx context.Context, yielder *snapshot.Yielder, v catalog.MatView, state matViewState, known bool) error {
	conn, err := m.OnSide(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(conn)
	var filled bool
	var pid int32
	if err := conn.QueryRow(ctx, `SELECT c.relispopulated, pg_catalog.pg_backend_pid() FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1)`, v.Name().String()).Scan(&filled, &pid); err != nil {
		return fmt.Errorf("look for materialised view %s on the target: %w", v.Name().Display(), err)
	}
	v.Populated = state.populated
	done := settledView{version: state.version}
	if state.populated && filled && !known {
		if done.differs, err = m.compare(ctx, v); err != nil {
			return err
		}
	}
	if filled != state.populated || known || done.differs != "" {
		if err := m.CaughtUp(ctx); err != nil {
			return err
		}
		end := yielder.ReadingAs(pid, nil) // TRUNCATE of a table that it reads comes first
		err := restore.FillMatView(ctx, conn, v, m.Path())
		end()
		if err != nil {
			return err
		}
		if state.populated {
			if done.differs, err = m.compare(ctx, v); err != nil {
				return err
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled[v.OID] = done
	delete(m.failed, v.OID)
	return nil
}

// compare says why a view's rows are not known to be the same on both sides, "" where they are.
func (m *Keeper) compare(ctx context.Context, v catalog.MatView) (differs string, err error) {
	f, err := verify.Freeze(ctx, m.OnSource, m.OnSide)
	if err != nil {
		return "", err
	}
	defer f.Close()
	run, err := verify.New(verify.Config{Tables: []verify.Table{{Name: v.Name(), Columns: v.Columns}}, Jobs: 1, Sample: 1, Log: zerolog.Nop()})
	if err != nil {
		return "", err
	}
	report, err := run.Run(ctx, f)
	switch {
	case pg.IsCode(err, pg.CodeInsufficientPrivilege):
		return "the role of --source may not read it there", nil
	case err != nil:
		return "", err
	case report.OK():
		return "", nil
	case report.Tables[0].Reason != "":
		return report.Tables[0].Reason, nil
	}
	return "other rows", nil
}

// Ask is a watcher's question. It gives a view that was refreshed just now a moment to
// be so on the target.
func (m *Keeper) Ask(ctx context.Context, source, _ *pgx.Conn) ([]watch.Notice, error) {
	if len(m.Views()) == 0 {
		return nil, nil
	}
	patience, arming := matViewPatience, m.Arming()
	if arming {
		patience = matViewArmingPatience
	}
	var states map[uint32]matViewState
	var found []watch.Notice
	for range retry.PollFor(ctx, dbconn.LockPoll, patience) {
		var err error
		if states, err = readMatViews(ctx, source); err != nil {
			return nil, err
		}
		var wait bool
		found, wait = m.notices(states, arming)
		if !wait || !m.May(true) { // while the stream catches up no view is filled, and no cutover is possible
			return found, nil
		}
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	m.waitedFor(states)
	return found, nil
}

// waitedFor remembers what a watcher has lost its patience with.
func (m *Keeper) waitedFor(states map[uint32]matViewState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for oid, s := range states {
		if m.settled[oid].version != s.version {
			m.waited[oid] = s.version
		}
	}
}

// notices says what is in the way of a cutover and what the operator should know, and whether
// waiting may improve it: for a view that was waited for already only while a cutover is armed.
func (m *Keeper) notices(states map[uint32]matViewState, arming bool) (found []watch.Notice, wait bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.Views() {
		state, there := states[v.OID]
		if !there {
			continue // DDL, which is noticed as such
		}
		name := v.Name().Display()
		s, f := m.settled[v.OID], m.failed[v.OID]
		switch {
		case s.version == state.version && s.differs == "":
		case s.version == state.version:
			found = append(found, watch.Notice{Warns: true, Usual: true, Blocker: control.Blocker{Code: "matview_differs",
				Detail: "materialised view " + name + " has other rows on the target than on the source: its query gives other rows now than when it was refreshed there, or different rows each time (" + s.differs + ")",
				Remedy: "on the source: REFRESH MATERIALIZED VIEW " + v.Name().String() + "; or accept that after the switch its readers see newer rows"}})
		case f.err != nil:
			found = append(found, watch.Notice{Blocker: control.Blocker{Code: "matview_failed",
				Detail: "materialised view " + name + " cannot be filled on the target: " + f.err.Error(),
				Remedy: "remove the cause that is named; it is tried again every " + matViewPause.String() + "; or, where nobody needs its rows, on the source: REFRESH MATERIALIZED VIEW " + v.Name().String() + " WITH NO DATA"}})
		default:
			wait = wait || arming || m.waited[v.OID] != state.version
			detail := "materialised view " + name + " was refreshed on the source, and is not yet on the target"
			if s.version == "" {
				detail = "materialised view " + name + " has not been compared with the source's yet"
			}
			found = append(found, watch.Notice{Usual: true, Blocker: control.Blocker{Code: "matview_pending", Detail: detail,
				Remedy: "wait: crossfade run refreshes it by itself"}})
		}
	}
	return found, wait
}
