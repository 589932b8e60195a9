package copy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
	"crossfade/replicate/stream"
)

const (
	// streamBytes bounds what of the stream is in memory.
	streamBytes = 16 << 20
	// idleEvery is how soon a quiet stream tells its position.
	idleEvery = 200 * time.Millisecond
	// keptShare is the part of a relation's rows up to which changed ones are
	// fetched again: beyond it reading the table in order is cheaper.
	keptShare = 5
	// keptKeys are always worth it.
	keptKeys = 100
)

// request asks for the keys that changed in one relation.
type request struct {
	*task // a repair, which is handed out when chunks and keys are there
	from  []pg.Snapshot
	rows  int64 // of the relation, about
}

// collector reads the stream for relations whose kept chunks are of a lost
// snapshot. One reading serves all that wait for it.
type collector struct {
	*run
	mu      sync.Mutex
	pending []*request
	wake    chan struct{} // holds a token when there is something pending
}

// ask queues a request. The relation's task is handed out, or the relation begun
// again, when it has been served.
func (c *collector) ask(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, r)
	c.awake()
}

// awake has the pending requests looked at. Called with mu locked.
func (c *collector) awake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns the requests of one holder.
func (c *collector) take() []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var mine, others []*request
	for _, r := range c.pending {
		if len(mine) == 0 || r.pass.holder == mine[0].pass.holder {
			mine = append(mine, r)
		} else {
			others = append(others, r)
		}
	}
	c.pending = others
	if len(others) > 0 {
		c.awake()
	}
	return mine
}

// serve reads the stream whenever it is asked to, until ctx ends. An error is one
// that another attempt cannot fix.
func (c *collector) serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		c.queue.settled(ctx) // all that an earlier Run began are read for at once
		requests := slices.DeleteFunc(c.take(), func(r *request) bool { return c.queue.stale(r.task) })
		if len(requests) == 0 || ctx.Err() != nil {
			continue
		}
		found, err := c.collect(ctx, requests)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read which rows changed: %w", err)
		}
		for _, r := range requests {
			c.answer(r, found[r.rel.table.OID])
		}
	}
}

// answer hands a relation on.
func (c *collector) answer(r *request, ch *changes) {
	if ch.bad != nil {
		c.restart(r.task, ch.bad)
		return
	}
	c.cfg.Log.Info().Str("table", r.rel.table.Name.Display()).Int64("keys", ch.found).Msg("changes since the lost snapshot are known")
	if c.queue.landed(r.task, func() {}) {
		c.queue.push(r.task)
	}
}

// collect reads the stream once for requests of one holder.
func (c *collector) collect(ctx context.Context, requests []*request) (map[uint32]*changes, error) {
	wanted := map[uint32]*changes{}
	for _, r := range requests {
		wanted[r.rel.table.OID] = &changes{table: r.rel.table, attempt: r.pass.attempt, from: r.from, to: r.pass.holder.Snapshot(),
			limit: max(keptKeys, r.rows/keptShare), columns: map[*stream.Relation][]int{}}
	}
	var end pg.LSN
	err := retry.Do(ctx, retry.Policy{MaxElapsed: c.cfg.Patience}, func(ctx context.Context) (err error) {
		end, err = c.snapshots.marked(ctx, requests[0].pass.holder)
		return passing(err)
	})
	if err != nil {
		return nil, err
	}
	s := c.cfg.Stream.Config
	s.MaxBytes, s.IdleInterval, s.Retry, s.Logger = streamBytes, idleEvery, retry.Policy{MaxElapsed: c.cfg.Patience}, c.cfg.Log
	reader, err := stream.NewReader(s)
	if err != nil {
		return nil, err
	}
	w := &keyWriter{run: c.run, sink: &sink{recent: map[recentKey]struct{}{}}, wanted: wanted}
	defer w.close()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	group, reading := errgroup.WithContext(reading)
	group.Go(func() error { return reader.Run(reading) })
	group.Go(func() error {
		defer stop()
		return w.read(reading, reader.Parts(), end)
	})
	err = group.Wait()
	if w.done && ctx.Err() == nil {
		return wanted, nil
	}
	return nil, errors.Join(context.Cause(ctx), err)
}

// keyWriter takes the keys out of the stream's parts and writes them down.
type keyWriter struct {
	*run
	sink   *sink
	wanted map[uint32]*changes
	conn   *pgx.Conn
	done   bool // everything up to the end was read and written
}

func (w *keyWriter) close() { snapshot.Close(w.conn) }

// read takes parts until one ends at or after end. Nothing is ever confirmed: the
// stream begins at the same position when the relations are followed.
func (w *keyWriter) read(ctx context.Context, parts <-chan *stream.Part, end pg.LSN) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-parts:
			w.part(p)
			over := p.Last && p.EndLSN >= end || p.Idle >= end && p.Idle != 0
			p.Release()
			if !over && !w.sink.full() {
				continue
			}
			if err := w.flush(ctx); err != nil {
				return err
			}
			if over {
				w.done = true
				return nil
			}
		}
	}
}

// part adds the keys of a part. Those of a transaction that was interrupted come
// twice, or for nothing; a row that is fetched again without need is no fault.
func (w *keyWriter) part(p *stream.Part) {
	for i := range p.Changes {
		ch := &p.Changes[i]
		switch ch.Kind {
		case stream.KindMessage:
		case stream.KindTruncate:
			for _, rel := range ch.Relations {
				w.change(w.wanted[rel.ID], ch, p.XID)
			}
		default:
			w.change(w.wanted[ch.Relation.ID], ch, p.XID)
		}
	}
}

func (w *keyWriter) change(c *changes, ch *stream.Change, xid uint32) {
	if c == nil || c.bad != nil || !c.concerns(xid) {
		return
	}
	if err := c.take(ch, func(values [][]byte) { w.sink.add(c.table.OID, c.attempt, values) }); err != nil {
		c.bad = err
	}
}

// flush writes the keys, over another connection if need be.
func (w *keyWriter) flush(ctx context.Context) error {
	var fresh map[uint32]int64
	err := retry.Do(ctx, retry.Policy{MaxElapsed: w.cfg.Patience}, func(ctx context.Context) (err error) {
		if w.conn == nil || w.conn.IsClosed() {
			if w.conn, err = w.cfg.Target(ctx); err != nil {
				return passing(err)
			}
		}
		fresh, err = w.sink.flush(ctx, w.conn)
		if w.cfg.Wait && pg.Fixable(err) {
			return err
		}
		return passing(err)
	})
	if err != nil {
		return err
	}
	for relid, n := range maps.All(fresh) {
		c := w.wanted[relid]
		if c.found += n; c.found > c.limit && c.bad == nil {
			c.bad = errManyChanges
		}
	}
	return nil
}
