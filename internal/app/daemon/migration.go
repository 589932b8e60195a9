package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/app/control"
	"crossfade/internal/app/dbconn"
	"crossfade/internal/app/runs"
	"crossfade/internal/base/failpoint"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/replicate/apply"
	"crossfade/replicate/copy"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
	"crossfade/schema/changes"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// migration takes a run from its start to the stream: schema, copy, indexes.
// Each step is recorded on the target and may be begun again.
type migration struct {
	source, target pg.DSN
	id             runs.Identity
	jobs           int
	chunkBytes     int64             // 0 for the copy's own choice
	onCopied       func(copy.Copied) // told of each table that is copied
	opts           CopyOptions       // of a one-shot copy; the zero value in a run
	lockTimeout    time.Duration
	waits          bool              // for what an operator can mend, instead of ending with it
	roles          map[string]string // the source's role names to the target's
	log            zerolog.Logger
	limit          *relay.Limiter       // of the copy; nil for none
	onBlocked      func([]slot.Blocker) // told while the slot's creation waits, and with none when it does not; may be nil

	mu          sync.Mutex
	phase       journal.Phase
	copier      *copy.Copier
	routes      map[uint32]pg.Name           // leaves that are written through a partitioned table
	past        control.Copy                 // of earlier starts: restarts and repairs only
	plan        *plan.Plan                   // of the kept archive
	newer       *plan.Plan                   // of an archive that was made since, with the kept one's numbers; nil for none
	dumped      map[uint32]bool              // oids of the tables in it; one that was made later is not on the target
	withoutData map[uint32]bool              // tables and sequences that come without what is in them
	taken       *archive.Taken               // what the patterns take along; nil for everything
	catalog     *catalog.Database            // the source's, as old as the archive or read again
	version     int                          // the target's major version
	path        string                       // search_path for expressions that call users' functions, as SET takes it; "" where there are none
	rewrite     *plan.Rewrite                // what is changed in the archive's definitions, once it is known
	findings    []finding.Finding            // what was left out, by this start
	refused     map[string][]finding.Finding // by stage: what a copy that goes on could not make
}

// sessions of the run: on the source plain, on the target with the run's key.
func (m *migration) connectSource(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.source, pg.WithName("copy"))
}

func (m *migration) connectTarget(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.target, pg.WithName("copy"), pg.WithKey(m.id.Target.Key))
}

func (m *migration) setPhase(p journal.Phase) {
	m.mu.Lock()
	m.phase = p
	m.mu.Unlock()
}

// setValid says that the target is whole. A finish that did not wait for that has the last word.
func (m *migration) setValid() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.phase.AtLeast(journal.PhaseFinished) {
		m.phase = journal.PhaseValid
	}
}

func (m *migration) reached(p journal.Phase) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase.AtLeast(p)
}

// copying reports whether rows are being copied.
func (m *migration) copying() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copier != nil && !m.phase.AtLeast(journal.PhaseCopied)
}

// consistent is the slot's consistent point.
func (m *migration) consistent() pg.LSN {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id.Target.Consistent
}

func (m *migration) reach(ctx context.Context, conn *pgx.Conn, p journal.Phase) error {
	if err := journal.SetPhase(ctx, conn, p); err != nil {
		return err
	}
	m.setPhase(p)
	m.log.Info().Str(obs.KeyState, string(p)).Msg("phase reached")
	failpoint.Here("phase." + string(p))
	return nil
}

// run brings the target to the phase indexed. With useSlot the copy begins at a
// replication slot; without, at a plain snapshot (the one-shot copy).
func (m *migration) run(ctx context.Context, useSlot bool) error {
	err := m.steps(ctx, useSlot)
	if table, ok := unbuildable(err); ok {
		if also := m.copyAnew(ctx, table); also != nil {
			err = fmt.Errorf("%w (%w)", err, also)
		}
	}
	return err
}

func (m *migration) steps(ctx context.Context, useSlot bool) error {
	target, err := m.connectTarget(ctx)
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
	if !m.reached(journal.PhaseDumped) {
		if held, err = m.begin(ctx, target, useSlot); err != nil {
			return err
		}
	}
	if err := m.loadPlan(ctx, target, held); err != nil {
		return err
	}
	if !m.reached(journal.PhasePrepared) {
		if err := m.preData(ctx, target); err != nil {
			return err
		}
	}
	if !m.reached(journal.PhaseIndexed) {
		return m.load(ctx, held)
	}
	return nil
}

// begin makes the publication and the slot and keeps the schema's archive, all
// seen by one snapshot, which it returns.
func (m *migration) begin(ctx context.Context, target *pgx.Conn, useSlot bool) (*snapshot.Holder, error) {
	var held *snapshot.Holder
	var err error
	if useSlot {
		held, err = m.makeSlot(ctx, target)
	} else {
		held, err = snapshot.Export(ctx, m.connectSource)
	}
	if err != nil {
		return nil, err
	}
	var dumped []byte
	var kept journal.Definitions
	var both errgroup.Group // one snapshot shows both the same
	both.Go(func() (err error) {
		dumped, err = archive.Dump(ctx, m.dumping(m.source, held.ID()))
		return err
	})
	both.Go(func() (err error) {
		kept, err = m.definitionsAt(ctx, held)
		return err
	})
	if err = both.Wait(); err != nil { // pg_dump's words do not say whether the source was away; its snapshot's session does
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
	m.id.Target.Archive, m.id.Target.ArchiveNow, m.id.Target.Digest, m.id.Target.Roles = dumped, nil, kept.Digest, kept.Roles
	if err := m.reach(ctx, target, journal.PhaseDumped); err != nil {
		held.Close()
		return nil, err
	}
	return held, nil
}

// loadPlan parses the kept archive and reads the catalog that goes with it: under
// the archive's own snapshot while that is held, else as it is now. DDL since
// then is found by comparing the definitions while the run follows (C20).
func (m *migration) loadPlan(ctx context.Context, target *pgx.Conn, held *snapshot.Holder) error {
	archive, err := plan.ParseArchive(m.id.Target.Archive)
	if err != nil {
		return err
	}
	source, err := m.connectSource(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(source)
	if held != nil {
		if err := held.Begin(ctx, source, 0); err != nil {
			return err
		}
	}
	db, err := catalog.Read(ctx, source)
	if err != nil {
		return err
	}
	dumped := map[uint32]bool{}
	for _, e := range archive.Entries {
		if e.Kind == "TABLE" {
			dumped[e.OID] = true
		}
	}
	if m.oneShot() {
		narrow(db, archive)
	}
	taken, err := m.opts.Filter.Take(ctx, m.source)
	if err != nil {
		return err
	}
	withoutData := map[uint32]bool{}
	if taken != nil {
		for _, oid := range taken.WithoutRows {
			withoutData[oid] = true
		}
	}
	var newer *plan.Plan
	if raw := m.id.Target.ArchiveNow; raw != nil {
		now, err := plan.ParseArchive(raw)
		if err != nil {
			return err
		}
		newer = plan.New(changes.Continued(archive, now))
	}
	plan := plan.New(archive)
	path, err := m.sourcePath(ctx, target, plan, db)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.path = path
	m.dumped, m.taken, m.withoutData = dumped, taken, withoutData
	m.plan, m.newer, m.catalog, m.version = plan, newer, db, pg.ServerVersion(target)/10000
	m.mu.Unlock()
	return nil
}

// preData restores what rows need, makes identity columns writable and closes
// the target's fence.
func (m *migration) preData(ctx context.Context, target *pgx.Conn) error {
	if m.opts.DataOnly {
		return m.openTables(ctx, target)
	}
	if err := m.makeRoom(ctx, target); err != nil {
		return err
	}
	err := unhurried(ctx, target, func() error {
		if err := m.structure(ctx, target); err != nil {
			return err
		}
		m.withoutRefused()
		if err := restore.Run(ctx, target, plan.IdentityByDefault(m.catalog)); err != nil {
			return err
		}
		return m.shut(ctx, target)
	})
	if err != nil {
		return err
	}
	return m.reach(ctx, target, journal.PhasePrepared)
}

// entriesEach is how many entries of the pre-data make one more session worth its login.
const entriesEach = 150

// structure restores the pre-data, with more sessions than the given one where there is
// much of it. Its commits are not waited for: those of all sessions come before the
// given one's next.
func (m *migration) structure(ctx context.Context, target *pgx.Conn) error {
	more, closeAll, err := m.sessions(ctx, max(min(m.jobs, len(m.plan.PreData)/entriesEach)-1, 0))
	if err != nil {
		return err
	}
	defer closeAll()
	for _, conn := range more {
		if _, err := conn.Exec(ctx, "SET synchronous_commit = off"); err != nil {
			return err
		}
	}
	return m.restore(ctx, plan.PreData, append([]*pgx.Conn{target}, more...))
}

func (m *migration) restore(ctx context.Context, part plan.Part, conns []*pgx.Conn) error {
	return m.restoreWith(ctx, part, restore.Config{Conns: conns})
}

func (m *migration) restoreWith(ctx context.Context, part plan.Part, cfg restore.Config) error {
	cfg.GoOn, cfg.Recorded = m.goesOn(), true
	r, err := m.restorePart(ctx, part, cfg)
	for i, f := range r.Refused {
		if f.SQLSTATE == pg.CodeUniqueViolation || f.SQLSTATE == pg.CodeExclusionViolation {
			r.Refused[i].Remedy = "rows contradict it, which the source's own index should have kept out: remove them on the target, and on the source, and REINDEX there"
		}
	}
	m.refuse(string(part), r.Refused)
	return err
}

func (m *migration) restorePart(ctx context.Context, part plan.Part, cfg restore.Config) (restore.Report, error) {
	rewrite, err := m.rewriting(ctx, cfg.Conns[0])
	if err != nil {
		return restore.Report{}, err
	}
	cfg.Rewrite, cfg.Log = rewrite, m.log
	planned := m.plan
	if part == plan.Decision || part == plan.Last {
		planned = m.newest()
	}
	r, err := restore.Restore(ctx, planned, part, cfg)
	m.note(r.Findings)
	return r, err
}

// readPlan reads the kept archive again, for what follows a decision.
func (m *migration) readPlan(ctx context.Context) error {
	target, err := m.connectTarget(ctx)
	if err != nil {
		return err
	}
	defer dbconn.CloseNow(target)
	routes, err := apply.LoadRoutes(ctx, target)
	if err != nil {
		return err
	}
	m.setRoutes(routes)
	return m.loadPlan(ctx, target, nil)
}

func (m *migration) hasPlan() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plan != nil
}

// decisionSQL writes the statements of the decision.
func (m *migration) decisionSQL() (*plan.DecisionSQL, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plan == nil {
		return nil, fmt.Errorf("the schema has not been read yet: wait until the phase is following")
	}
	planned := m.plan
	if m.newer != nil {
		planned = m.newer
	}
	sql, err := planned.DecisionSQL(plan.DecisionConfig{Source: m.catalog, Target: m.version, Roles: m.roles, Path: m.path})
	if err != nil {
		return nil, err
	}
	return &sql, nil
}

// last restores what follows the decision, and returns what the target refuses of it.
func (m *migration) last(ctx context.Context, conn *pgx.Conn) (refused []finding.Finding, err error) {
	r, err := m.restorePart(ctx, plan.Last, restore.Config{Conns: []*pgx.Conn{conn}, GoOn: true})
	if err != nil {
		return nil, err
	}
	source, err := m.connectSource(ctx)
	if err != nil { // the target is active: the source may be gone
		m.log.Warn().Err(err).Msg("settings of roles are not carried over")
		return r.Refused, nil
	}
	defer dbconn.CloseNow(source)
	return r.Refused, m.roleSettings(ctx, source, conn)
}
