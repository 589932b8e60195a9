package verify

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/replicate/snapshot"
)

// Verifier compares the tables of one Config.
type Verifier struct {
	cfg         Config
	done, whole atomic.Int64 // bytes of both sides
}

// Progress is how many bytes of both sides have been read, and of how many. It may be called while
// Run runs. Reading tables again for keys that differ is not counted.
func (v *Verifier) Progress() (done, whole int64) { return v.done.Load(), v.whole.Load() }

// New checks the config and returns a Verifier.
func New(cfg Config) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Verifier{cfg: cfg}, nil
}

// Run compares every table from the two snapshots, which it does not close. It returns when all are
// compared, when ctx ends, or when one of the snapshots is lost: then the error is
// snapshot.ErrLost, and nothing more can be compared. Differences are in the report and are not an
// error.
func (v *Verifier) Run(ctx context.Context, f *Frozen) (Report, error) {
	sides := [2]*side{
		{name: "source", holder: f.From, connect: f.connectFrom, lock: v.cfg.LockTimeout, path: v.cfg.SearchPath, rest: v.cfg.Rest},
		{name: "target", holder: f.To, connect: f.connectTo, lock: v.cfg.LockTimeout, path: v.cfg.SearchPath, rest: v.cfg.Rest, since: v.cfg.Since},
	}
	work, err := v.plan(ctx, sides)
	if err != nil {
		return Report{}, fmt.Errorf("compare both sides: %w", err)
	}
	report := Report{Tables: make([]Result, len(work))}
	err = v.read(ctx, sides, work)
	for i, c := range work {
		report.Tables[i] = c.result
	}
	return report, pg.Wrap(err, "compare both sides")
}

// comparison is one table on its way.
type comparison struct {
	table  Table
	seen   [2][]relation // of the table's files, in their order
	sides  [2]tally
	result Result

	mu   sync.Mutex // guards what follows and the tallies
	left int        // parts of both sides that are not read
}

// blocks is the size of the table on both sides.
func (c *comparison) blocks() (n int64) {
	for _, files := range c.seen {
		for _, r := range files {
			n += r.blocks
		}
	}
	return n
}

// tally adds up what the parts of one side said.
type tally struct {
	rows       int64
	hash       big.Int
	notTheSame bool // the file is not the snapshot's
}

// part is a range of blocks of one file of one side; hi -1 is the end.
type part struct {
	c      *comparison
	file   int
	lo, hi int64
	bytes  int64 // about
}

// where is the condition of the part's rows.
func (p part) where() string {
	switch {
	case p.hi >= 0:
		return fmt.Sprintf("ctid >= '(%d,0)'::pg_catalog.tid AND ctid < '(%d,0)'::pg_catalog.tid", p.lo, p.hi)
	case p.lo > 0:
		return fmt.Sprintf("ctid >= '(%d,0)'::pg_catalog.tid", p.lo)
	}
	return "true"
}

// plan inspects both sides and makes the comparisons; those that need no reading are settled at
// once.
func (v *Verifier) plan(ctx context.Context, sides [2]*side) ([]*comparison, error) {
	work := make([]*comparison, len(v.cfg.Tables))
	for i, t := range v.cfg.Tables {
		work[i] = &comparison{table: t, result: Result{Name: t.Name}}
	}
	old := false
	for at, s := range sides {
		s.yielder = snapshot.NewYielder(s.connect)
		var found map[pg.Name]relation
		w := &worker{side: s, v: v}
		err := w.persist(ctx, func() (err error) {
			s.ranges = snapshot.BlockRanges(w.conn)
			old = old || pg.ServerVersion(w.conn) < 120000
			found, err = s.readRelations(ctx, w.conn, v.cfg.Tables)
			return err
		})
		snapshot.Close(w.conn)
		if err != nil {
			return nil, err
		}
		for _, c := range work {
			for _, name := range c.table.files() {
				c.seen[at] = append(c.seen[at], found[name])
			}
		}
	}
	for _, s := range sides {
		s.bytes = old
	}
	return work, nil
}

// parts cuts one side of a comparison.
func (v *Verifier) parts(s *side, c *comparison, files []relation) []part {
	var parts []part
	for i, r := range files {
		lo := int64(0)
		if s.ranges && r.heap && r.blocks > 0 {
			step := max(v.cfg.ChunkBytes*r.blocks/max(r.bytes, 1), 1)
			for ; lo+step < r.blocks; lo += step {
				parts = append(parts, part{c, i, lo, lo + step, v.cfg.ChunkBytes})
			}
		}
		parts = append(parts, part{c, i, lo, -1, r.bytes - lo*(r.bytes/max(r.blocks, 1))})
	}
	return parts
}

// read runs the workers of both sides until every part is read.
func (v *Verifier) read(ctx context.Context, sides [2]*side, work []*comparison) error {
	all, ctx := errgroup.WithContext(ctx)
	serve, stop := context.WithCancel(ctx)
	defer stop()
	var queues [2][]part
	// The small ones first: a result that is known early cannot be lost any more.
	for _, c := range slices.SortedStableFunc(slices.Values(work), func(a, b *comparison) int { return cmp.Compare(a.blocks(), b.blocks()) }) {
		if !v.settleUnread(c) {
			for at, s := range sides {
				p := v.parts(s, c, c.seen[at])
				c.left += len(p)
				for _, x := range p {
					v.whole.Add(x.bytes)
				}
				queues[at] = append(queues[at], p...)
			}
		}
	}
	var busy sync.WaitGroup
	for at, s := range sides {
		all.Go(func() error { return s.yielder.Run(serve) })
		all.Go(func() error { return s.holder.Run(serve) })
		next := make(chan part, len(queues[at]))
		for _, p := range queues[at] {
			next <- p
		}
		close(next)
		for range v.cfg.Jobs {
			busy.Add(1)
			all.Go(func() error {
				defer busy.Done()
				w := &worker{side: s, v: v, at: at, other: sides[1-at]}
				defer w.close()
				return w.work(ctx, next)
			})
		}
	}
	all.Go(func() error {
		busy.Wait()
		stop()
		return nil
	})
	return all.Wait()
}

// settleUnread judges a table that one of the snapshots does not have.
func (v *Verifier) settleUnread(c *comparison) bool {
	for at, missing := range []string{"source", "target"} {
		for i, name := range c.table.files() {
			if c.seen[at][i].oid != 0 {
				continue
			}
			what := "the table"
			if c.table.Leaves != nil {
				what = "partition " + name.Display()
			}
			verdict, reason := Different, what+" does not exist at the "+missing
			if v.cfg.Since != nil { // it did when the sides were equal
				verdict, reason = NotProvable, reason+" any more"
			}
			v.settle(c, verdict, reason)
			return true
		}
	}
	return false
}

func (v *Verifier) settle(c *comparison, verdict Verdict, reason string) {
	c.result.Verdict, c.result.Reason = verdict, reason
	c.result.FromRows, c.result.ToRows = c.sides[0].rows, c.sides[1].rows
	if v.cfg.Settled != nil {
		v.cfg.Settled(c.result)
	}
	if verdict != Equal {
		v.cfg.Log.Warn().Str("table", c.table.Name.Display()).Str("verdict", string(verdict)).Msg(reason)
	}
}

// worker is a session on one side, and one on the other when the keys of a difference are searched
// for.
type worker struct {
	*side
	v         *Verifier
	at        int
	other     *side
	conn      *pgx.Conn
	otherConn *pgx.Conn
}

func (w *worker) close() {
	snapshot.Close(w.conn)
	snapshot.Close(w.otherConn)
}

// persist opens the sessions that are missing and calls f until it works or can never work.
func (w *worker) persist(ctx context.Context, f func() error) error {
	return retry.Do(ctx, retry.Policy{MaxElapsed: w.v.cfg.Patience, Max: retry.DefaultMax}, func(ctx context.Context) error {
		var err error
		if w.conn == nil || w.conn.IsClosed() {
			w.conn, err = w.open(ctx)
		}
		if err == nil {
			err = f()
		}
		if err != nil && !snapshot.Passing(err) {
			return retry.Permanent(err)
		}
		return err
	})
}

func (w *worker) work(ctx context.Context, next <-chan part) error {
	for p := range next {
		var rows int64
		var sum big.Int
		var same bool
		err := w.persist(ctx, func() (err error) {
			rows, sum, same, err = w.tally(ctx, p)
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s at the %s: %w", p.c.table.Name.Display(), w.name, err)
		}
		w.v.done.Add(p.bytes)
		if w.add(p.c, rows, &sum, same) {
			if err := w.judge(ctx, p.c); err != nil {
				return fmt.Errorf("judge %s: %w", p.c.table.Name.Display(), err)
			}
		}
	}
	return ctx.Err()
}

// tally reads one part: the number of its rows and the sum of their hashes.
func (w *worker) tally(ctx context.Context, p part) (rows int64, sum big.Int, same bool, err error) {
	r := p.c.seen[w.at][p.file]
	sql := fmt.Sprintf("SELECT pg_catalog.count(*), %s FROM ONLY %s WHERE %s",
		written("coalesce(pg_catalog.sum("+hash(w.row(p.c.table.Columns, r))+"), 0)"), r.name, p.where())
	same, err = w.read(ctx, w.conn, r, func(row pgx.Rows) error {
		var text string
		if err := row.Scan(&rows, &text); err != nil {
			return err
		}
		if _, ok := sum.SetString(text, 10); !ok {
			return fmt.Errorf("sum of hashes %q is no number", text)
		}
		return nil
	}, sql)
	return rows, sum, same, err
}

// add counts a part and reports whether it was the last one of its table.
func (w *worker) add(c *comparison, rows int64, sum *big.Int, same bool) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.sides[w.at]
	t.rows += rows
	t.hash.Add(&t.hash, sum)
	t.notTheSame = t.notTheSame || !same
	c.left--
	return c.left == 0
}

// judge settles a table whose parts are all read.
func (w *worker) judge(ctx context.Context, c *comparison) error {
	from, to := &c.sides[0], &c.sides[1]
	switch {
	case from.notTheSame || to.notTheSame:
		at := "source"
		if to.notTheSame {
			at = "target"
		}
		w.v.settle(c, NotProvable, "the table was truncated, rewritten or dropped at the "+at+" since the snapshot")
	case from.rows == to.rows && from.hash.Cmp(&to.hash) == 0:
		w.v.settle(c, Equal, "")
	case w.v.cfg.Since != nil:
		return w.judgeSince(ctx, c)
	default:
		reason := fmt.Sprintf("%d rows at the source, %d at the target", from.rows, to.rows)
		if from.rows == to.rows {
			reason += ", with different content"
		}
		var err error
		if c.result.Keys, c.result.More, err = w.sample(ctx, c); err != nil {
			return err
		}
		w.v.settle(c, Different, reason)
	}
	return nil
}
