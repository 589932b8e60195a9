package copy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/copy/relay"
	"crossfade/replicate/snapshot"
)

// Copier copies the tables of one Config.
type Copier struct {
	cfg      Config
	counters counters
}

// New checks the config and returns a Copier.
func New(cfg Config) (*Copier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Copier{cfg: cfg}, nil
}

// Progress returns how far the copy has come. Safe for concurrent use.
func (c *Copier) Progress() Progress { return c.counters.read() }

// run is what the workers of one Run share.
type run struct {
	cfg       *Config
	counters  *counters
	queue     *queue
	collector *collector
	snapshots *snapshots
	yielder   *snapshot.Yielder
	sizer     *sizer
	gate      *gate
	trees     trees
}

// Run copies every table that is not recorded as copied and returns when all are, when ctx ends, or
// at the first error that another attempt cannot fix. It may be called again, here or in a new
// process, and continues where it was. It must not be called twice at the same time. The schema
// crossfade must be on the target.
func (c *Copier) Run(ctx context.Context) error {
	renewed := map[pg.Name]bool{} // trees that take a snapshot of their own
	for again := 1; ; again++ {
		err := c.once(ctx, renewed)
		var t *treeError
		if !errors.As(err, &t) || ctx.Err() != nil {
			return err
		}
		if again > c.cfg.MaxRestarts {
			return fmt.Errorf("begun again %d times: %w", again-1, err)
		}
		if t.renew && !c.cfg.OneMoment {
			renewed[t.through] = true
		}
		c.cfg.Log.Warn().Str("table", t.through.Display()).AnErr("error", t.cause).Msg("tree is copied again")
		policy := retry.Policy{MaxElapsed: c.cfg.Patience, OnRetry: obs.Retrying(c.cfg.Log, "the copy begins a tree again")}
		err = retry.Do(ctx, policy, func(ctx context.Context) error {
			conn, err := c.cfg.Target(ctx)
			if err == nil {
				err = emptyTree(ctx, conn, t.through)
				snapshot.Close(conn)
			}
			return passing(err)
		})
		if err != nil {
			return err
		}
	}
}

// once is Run until a tree of partitions must begin again.
func (c *Copier) once(ctx context.Context, renewed map[pg.Name]bool) error {
	c.counters.change(func(p *Progress) { *p = Progress{TablesTotal: len(c.cfg.Tables)} })
	r := &run{cfg: &c.cfg, counters: &c.counters, yielder: snapshot.NewYielder(c.cfg.Source),
		sizer: newSizer(&c.cfg), gate: &gate{pace: pace{jobs: c.cfg.Jobs, limit: c.cfg.Jobs}, wake: make(chan struct{})}}
	policy := retry.Policy{MaxElapsed: c.cfg.Patience, OnRetry: obs.Retrying(c.cfg.Log, "the copy begins or ends")}
	err := retry.Do(ctx, policy, func(ctx context.Context) (err error) {
		r.snapshots, err = newSnapshots(ctx, &c.cfg)
		return passing(err)
	})
	if err != nil {
		return fmt.Errorf("start copy: %w", err)
	}
	defer r.snapshots.close()
	var rels []*relation
	err = retry.Do(ctx, policy, func(ctx context.Context) (err error) {
		if rels, err = r.prepare(ctx, renewed); errors.Is(err, snapshot.ErrLost) {
			err = cmp.Or(r.snapshots.replace(ctx, r.cfg.OneMoment, err), err)
		}
		return passing(err)
	})
	if err != nil {
		return fmt.Errorf("start copy: %w", err)
	}
	if len(rels) > 0 && rels[0].pending {
		r.probe(ctx, rels[0])
	}
	alone, batches := batches(rels, r.cfg)
	r.queue = newQueue(r.sizer, alone, batches)
	r.collector = &collector{run: r, wake: make(chan struct{}, 1)}
	if err := r.work(ctx); err != nil {
		return err
	}
	err = retry.Do(ctx, policy, func(ctx context.Context) error { return passing(r.confirm(ctx)) })
	return pg.Wrap(err, "end copy")
}

// confirm makes sure that the target has kept what it has confirmed.
func (r *run) confirm(ctx context.Context) error {
	conn, err := r.cfg.Target(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Close(conn)
	var left int
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.count(*) FROM crossfade.relation WHERE relid = ANY ($1) AND state NOT IN ('`+stateCopied+`', '`+stateReady+`')`,
		r.oids()).Scan(&left); err != nil {
		return fmt.Errorf("count copied tables: %w", err)
	}
	if left > 0 {
		return fmt.Errorf("%d tables are not recorded as copied any more: the target has lost commits; start again to continue", left)
	}
	return nil
}

func (r *run) oids() []uint32 {
	return lists.Map(r.cfg.Tables, func(t Table) uint32 { return t.OID })
}

func passing(err error) error {
	if err == nil || snapshot.Passing(err) || errors.Is(err, snapshot.ErrLost) || errors.Is(err, errCommitNotVisible) {
		return err
	}
	return retry.Permanent(err)
}

// work runs the workers, and what serves them, until the workers have ended.
func (r *run) work(ctx context.Context) error {
	serve, stop := context.WithCancel(ctx)
	defer stop()
	all, serve := errgroup.WithContext(serve)
	all.Go(func() error {
		r.snapshots.run(serve)
		return nil
	})
	all.Go(func() error { return r.yielder.Run(serve) })
	all.Go(func() error { return r.collector.serve(serve) })
	all.Go(func() error {
		r.gate.run(serve, func() int64 { return r.counters.read().Relayed }, func(limit int) {
			r.cfg.Log.Info().Int("jobs", limit).Msg("copy with another number of jobs")
		})
		return nil
	})
	all.Go(func() error {
		defer stop()
		jobs, ctx := errgroup.WithContext(serve)
		for range r.cfg.Jobs {
			w := &worker{run: r, bufs: relay.NewBuffers(r.cfg.BufferBytes)}
			jobs.Go(func() error { return w.work(ctx) })
		}
		return jobs.Wait()
	})
	err := all.Wait()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// prepare registers the tables on the target and sorts out those that are to be
// copied, biggest first.
func (r *run) prepare(ctx context.Context, renewed map[pg.Name]bool) ([]*relation, error) {
	conn, err := r.cfg.Target(ctx)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close(conn)
	records, err := register(ctx, conn, r.cfg.Tables)
	if err != nil {
		return nil, err
	}
	source, err := snapshot.Session(ctx, r.cfg.Source)
	if err != nil {
		return nil, err
	}
	defer snapshot.Close(source)
	h := r.snapshots.shared()
	defer r.snapshots.release(h)
	known, err := readFacts(ctx, source, h, r.oids(), r.cfg.SourceLockTimeout)
	if err != nil {
		return nil, err
	}
	var rels []*relation
	p := Progress{TablesTotal: len(r.cfg.Tables)}
	var earlier []Copied
	tables := slices.Clone(r.cfg.Tables)
	for i := range tables {
		tables[i].Through = records[tables[i].OID].through
	}
	if err := r.fit(tables, records, h.Text()); err != nil {
		return nil, retry.Permanent(err)
	}
	r.trees = trees{}
	own, err := r.renew(ctx, source, tables, records, renewed, known)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		f, rec := known[t.OID], records[t.OID]
		p.BytesTotal += f.bytes
		p.Restarts += rec.restarts
		p.Repaired += rec.repairs
		p.RepairedKeys += rec.keys
		if rec.finished() {
			p.TablesDone++
			p.BytesDone += f.bytes
			p.RowsDone += rec.rows
			if c := (Copied{Table: t, Snapshot: rec.snapshot, Rows: rec.rows, Earlier: true}); !r.trees.hold(c) {
				earlier = append(earlier, c)
			}
			continue
		}
		r.trees.expect(t)
		if f.filenode == 0 {
			return nil, &TableError{Table: t.Name, Err: ErrGone}
		}
		holder := own[t.Through]
		if holder != nil {
			r.snapshots.use(holder)
		} else {
			holder = r.snapshots.shared()
		}
		rels = append(rels, &relation{table: t, size: f.bytes, pending: rec.state == statePending, resumed: rec.state == stateCopying, pass: &pass{holder: holder, facts: f}})
	}
	slices.SortStableFunc(rels, func(a, b *relation) int { return cmp.Compare(b.size, a.size) })
	r.counters.change(func(now *Progress) { *now = p })
	for _, h := range own {
		r.snapshots.release(h)
	}
	r.announce(append(earlier, r.trees.whole()...))
	return rels, nil
}
