package migration

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// load copies every relation that is not copied yet, and builds the indexes and constraints of each
// as soon as it is. Then it fills the materialised views. Both parts continue after what an earlier
// start has done.
//
// An index that cannot be built does not end the copy, whose snapshot would be lost; it is told
// afterwards.
func (m *Rows) load(ctx context.Context, held *snapshot.Holder) error {
	analyzed := lists.Filter(m.schema.catalog.Relations, func(r *catalog.Relation) bool {
		return m.schema.dumped[r.OID] && !m.task.Options.SchemaOnly
	})
	copied := &arrivals{most: len(analyzed), seen: map[uint32]bool{}}
	building, stop := context.WithCancel(ctx)
	defer stop()
	built := make(chan error, 1)
	go func() { built <- m.build(building, copied, analyzed) }()
	var err error
	if !m.task.Reached(journal.PhaseCopied) {
		err = m.copy(ctx, held, func(c copy.Copied) { copied.add(c.Table.OID) })
	}
	if held != nil { // the source need not keep dead rows for the indexes
		held.Close()
	}
	if err != nil {
		stop()
		<-built
		return err
	}
	copied.end()
	if err := <-built; err != nil {
		return err
	}
	// The copy outlives a compute that was suspended or restarted; a session that
	// was opened before it does not.
	return m.task.onTarget(ctx, func(target *pgx.Conn) error {
		if !m.task.Options.SchemaOnly {
			if err := m.refresh(ctx, target); err != nil {
				return err
			}
		}
		return m.task.reach(ctx, target, journal.PhaseIndexed)
	})
}

// build restores what follows the rows. While there is a copy that must not be ended, sessions that
// are lost are opened again.
func (m *Rows) build(ctx context.Context, copied *arrivals, analyzed []*catalog.Relation) error {
	policy := retry.Policy{MaxElapsed: copy.DefaultPatience, OnRetry: obs.Retrying(m.task.Log, "the building of indexes continues")}
	return retry.Do(ctx, policy, func(ctx context.Context) error {
		conns, closeAll, err := m.task.sessions(ctx, m.task.Jobs)
		if err == nil {
			cfg := restore.Config{Conns: conns, Source: m.schema.catalog, Copied: copied.hear(), Analyze: analyzed}
			if m.task.Options.DataOnly {
				cfg.Only = func(*archive.Entry) bool { return false }
			}
			err = m.schema.restoreWith(ctx, plan.AfterCopy, cfg)
			closeAll()
		}
		if err != nil && !watch.Passing(err) {
			return retry.Permanent(err)
		}
		return err
	})
}

// withAsyncCommit runs f with synchronous_commit off on conn: its commits are not waited for. The
// next commit on conn makes them durable, or finds that the server, and they, are gone.
func withAsyncCommit(ctx context.Context, conn *pgx.Conn, f func() error) error {
	if _, err := conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SET synchronous_commit = on")
	return err
}

// sessions opens n sessions at the target.
func (m *Task) sessions(ctx context.Context, n int) (conns []*pgx.Conn, closeAll func(), err error) {
	conns = make([]*pgx.Conn, n)
	g, opening := errgroup.WithContext(ctx)
	for i := range conns {
		g.Go(func() (err error) {
			conns[i], err = m.ConnectTarget(opening)
			return err
		})
	}
	closeAll = func() {
		for _, c := range conns {
			dbconn.CloseNow(c)
		}
	}
	if err := g.Wait(); err != nil {
		closeAll()
		return nil, nil, err
	}
	return conns, closeAll, nil
}

// copy copies every relation that is not copied yet, and what else has rows, and records that.
func (m *Rows) copy(ctx context.Context, held *snapshot.Holder, onCopied func(copy.Copied)) error {
	var err error
	if m.copyStream() == nil {
		err = m.copyOnce(ctx, held, onCopied)
	} else {
		err = m.copyTables(ctx, held, onCopied)
	}
	if err != nil {
		return err
	}
	return m.task.onTarget(ctx, func(target *pgx.Conn) error { return m.task.reach(ctx, target, journal.PhaseCopied) })
}

func (m *Rows) copyTables(ctx context.Context, held *snapshot.Holder, onCopied func(copy.Copied)) error {
	var tables []copy.Table
	for _, r := range m.schema.catalog.Relations {
		if r.Kind != catalog.KindTable || !m.schema.dumped[r.OID] || m.schema.withoutData[r.OID] || m.task.Options.SchemaOnly {
			continue
		}
		tables = append(tables, copy.Table{OID: r.OID, Name: r.Name(), Columns: r.CopyColumns(), Binary: r.BinarySafe, Key: followedKey(r)})
	}
	if err := m.routed(ctx, tables); err != nil {
		return err
	}
	for {
		err := m.copyThose(ctx, held, tables, onCopied)
		rest, goesOn := m.leaveRows(ctx, tables, err)
		if err == nil {
			break
		}
		if !goesOn {
			return err
		}
		tables = rest
	}
	if err := m.extras.Extras(ctx, held); err != nil {
		return err
	}
	failpoint.Here("copy.extras")
	return nil
}

// copyThose copies the rows of tables.
func (m *Rows) copyThose(ctx context.Context, held *snapshot.Holder, tables []copy.Table, onCopied func(copy.Copied)) error {
	c, err := copy.New(copy.Config{Source: m.schema.connectRead, Target: m.schema.connectRows, Tables: tables, Snapshot: held, Stream: m.copyStream(),
		OneMoment: m.copyStream() == nil && !m.task.Options.KeepCopied, Jobs: m.task.Jobs, ChunkBytes: m.task.ChunkBytes,
		SourceLockTimeout: m.task.LockTimeout, Limit: m.task.Limit, Wait: m.task.Waits, OnCopied: onCopied, Log: m.task.Log})
	if err != nil {
		return err
	}
	m.task.mu.Lock()
	m.copier = c
	m.task.mu.Unlock()
	return c.Run(ctx)
}

// foreignKeys adds the foreign keys and checks the rows, where nothing writes to
// the target. They come before what could keep the rows from being read.
func (m *Keys) foreignKeys(ctx context.Context) error {
	conns, closeAll, err := m.task.sessions(ctx, m.task.Jobs)
	if err != nil {
		return err
	}
	defer closeAll()
	r, err := m.schema.restorePart(ctx, plan.Decision, restore.Config{Conns: conns, Source: m.schema.catalog, GoOn: m.task.goesOn(), Recorded: true,
		Only: func(e *archive.Entry) bool { return e.Kind == kindForeignKey }})
	m.findings.refuse(stageKeys, m.withOrphans(ctx, conns[0], r.Refused))
	return err
}

// kindForeignKey is pg_dump's word for a foreign key.
const kindForeignKey = "FK CONSTRAINT"

// withOrphans names rows that violate foreign keys.
func (m *Keys) withOrphans(ctx context.Context, target *pgx.Conn, refused []finding.Finding) []finding.Finding {
	for i, f := range refused {
		if f.SQLSTATE != pg.CodeForeignKeyViolation {
			continue
		}
		if o, ok := m.orphansOf(ctx, target, m.schema.Plan.OID(f.ID)); ok {
			refused[i].Message = o.String()
			refused[i].Remedy = "remove the rows: " + o.Remove
		}
	}
	return refused
}

// refresh fills the materialised views and gives the planner their statistics.
func (m *Rows) refresh(ctx context.Context, target *pgx.Conn) error {
	refused, err := restore.RefreshMatViews(ctx, target, m.schema.catalog.MatViews, m.schema.SearchPath())
	if err != nil || len(refused) > 0 && !m.task.goesOn() {
		return errors.Join(append(lists.Map(refused, func(r *restore.Error) error { return r }), err)...)
	}
	findings := lists.Map(refused, func(r *restore.Error) finding.Finding { return r.Finding })
	m.findings.refuse(stageViews, findings)
	return nil
}

// MatViews are the source's views that exist on the target, each after those that it reads.
func (m *Schema) MatViews() []catalog.MatView {
	m.task.mu.Lock()
	defer m.task.mu.Unlock()
	if m.catalog == nil {
		return nil
	}
	return m.catalog.MatViews
}

// arrivals announces tables as they are copied. A listener that begins late, or again, gets all of
// them. Safe for concurrent use.
type arrivals struct {
	mu     sync.Mutex
	oids   []uint32
	seen   map[uint32]bool
	ended  bool
	most   int // tables there are
	listen chan uint32
}

func (a *arrivals) add(oid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[oid] {
		return // copied once more
	}
	a.seen[oid] = true
	a.oids = append(a.oids, oid)
	if a.listen != nil {
		a.listen <- oid // has room for all
	}
}

// end says that no table is left.
func (a *arrivals) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.listen != nil {
		close(a.listen)
		a.listen = nil
	}
}

// hear returns a channel that takes the place of an earlier one. It is closed
// when all tables are copied.
func (a *arrivals) hear() <-chan uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	ch := make(chan uint32, a.most)
	for _, oid := range a.oids {
		ch <- oid
	}
	if a.ended {
		close(ch)
	} else {
		a.listen = ch
	}
	return ch
}
