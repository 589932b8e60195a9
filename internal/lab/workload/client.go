package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"crossfade/internal/lab/history"
)

// client is one application: it owns its session and its record of operations.
type client struct {
	cfg    Config
	number int
	driver Driver
	rng    *rand.Rand
	steps  []step
	weight int // of all steps

	sess  session // nil while the connection is lost
	rec   *record
	seq   int64 // of the transaction begun last
	acked int64 // of the transaction acknowledged last; 0 if none
	fresh bool  // acked has not been read back yet
}

func newClient(cfg Config, i int, rec *record) *client {
	number := cfg.FirstClient + i
	rng := rand.New(rand.NewPCG(cfg.Seed, uint64(number)))
	c := &client{cfg: cfg, number: number, driver: cfg.driver(i), rng: rng, steps: cfg.Scenario.steps(rng), rec: rec}
	for _, s := range c.steps {
		c.weight += s.weight
	}
	return c
}

// connect opens the session and sets it up.
func (c *client) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout+c.cfg.answerTimeout())
	defer cancel()
	name := fmt.Sprintf("workload %d", c.number)
	var err error
	var s session
	if c.driver == PSQL {
		s, err = openPSQL(ctx, c.cfg.DSN, c.cfg.PSQL, name)
	} else {
		s, err = openPGX(ctx, c.cfg.DSN, modes[c.driver], name)
	}
	if err != nil {
		return err
	}
	for _, text := range c.setup() {
		if err := s.exec(ctx, text); err != nil {
			s.close(ctx)
			return fmt.Errorf("set up session of client %d: %w", c.number, err)
		}
	}
	c.sess = s
	return nil
}

// run works until stopping closes, or ctx ends, which breaks off what is under
// way.
func (c *client) run(ctx context.Context, stopping <-chan struct{}) {
	defer func() {
		if c.sess != nil {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), psqlExit)
			defer cancel()
			c.sess.close(end)
		}
	}()
	every := reconnectEvery
	if c.cfg.Rate > 0 {
		every = time.Duration(float64(time.Second) / c.cfg.Rate)
	}
	pace := time.NewTicker(max(every, 1))
	defer pace.Stop()
	for {
		select {
		case <-stopping:
			return
		case <-ctx.Done():
			return
		default:
		}
		if c.sess == nil || c.cfg.Rate > 0 {
			select {
			case <-stopping:
				return
			case <-ctx.Done():
				return
			case <-pace.C:
			}
		}
		if c.sess == nil {
			if err := c.connect(ctx); err != nil {
				c.rec.refused(err)
				continue
			}
			c.rec.reconnected()
		}
		c.work(ctx)
	}
}

// work runs one operation, the check of the last acknowledged one first, and
// drops a session that did not survive it.
func (c *client) work(ctx context.Context) {
	if c.fresh {
		c.fresh = false
		c.do(ctx, step{kind: "seen", read: c.seen})
	} else {
		c.do(ctx, c.choose())
	}
	if c.sess.lost() {
		c.sess.close(ctx)
		c.sess = nil
		c.rec.lost()
	}
}

func (c *client) choose() step {
	for {
		n := c.rng.IntN(c.weight)
		for _, s := range c.steps {
			if n -= s.weight; n < 0 {
				if s.possible == nil || s.possible() {
					return s
				}
				break
			}
		}
	}
}

// do runs one step and records its outcome.
func (c *client) do(ctx context.Context, s step) {
	op := history.Operation{Token: history.Token{Client: c.number}, Kind: s.kind, Start: time.Now()}
	w := &work{op: &op}
	w.query = func(ctx context.Context, st statement) (rows [][]string, err error) {
		c.trip(ctx, &op, func(ctx context.Context) { rows, err = c.sess.query(ctx, st) })
		return rows, err
	}
	var err error
	if s.read != nil {
		if err = s.read(ctx, w); err != nil {
			op.Outcome = history.Failed
		}
	} else {
		c.seq++
		op.Token.Seq = c.seq
		op.Outcome, err = c.transact(ctx, s, w)
	}
	op.End = time.Now()
	if err != nil {
		op.Error = err.Error()
	}
	if op.Outcome == history.OK {
		for _, f := range w.acked {
			f()
		}
		if op.Token.Seq > 0 {
			c.acked, c.fresh = c.seq, c.rng.IntN(4) == 0
		}
	}
	c.rec.add(op)
}

// trip times one exchange with the server and bounds it.
func (c *client) trip(ctx context.Context, op *history.Operation, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.answerTimeout())
	defer cancel()
	begin := time.Now()
	f(ctx)
	if took := time.Since(begin); took > op.Slowest.Took {
		op.Slowest = history.Trip{Start: begin, Took: took}
	}
}

// transact runs one transaction of whichever shape the step has.
func (c *client) transact(ctx context.Context, s step, w *work) (history.Outcome, error) {
	switch {
	case s.explicit != nil:
		return c.explicit(ctx, s, w)
	case s.single != nil:
		x := s.single(w)
		rows, err := w.query(ctx, c.singleLedger(s.kind, x))
		return c.implicit(rows, err, w, func(int) string { return x.sequence })
	default:
		b := s.burst(w)
		var rows [][]string
		var err error
		c.trip(ctx, w.op, func(ctx context.Context) {
			rows, err = c.sess.burst(ctx, append(b.statements, c.ledger(s.kind, b.ids)))
		})
		return c.implicit(rows, err, w, func(i int) string { return b.sequences[i] })
	}
}

// implicit judges a transaction whose only message is also the one that commits.
func (c *client) implicit(rows [][]string, err error, w *work, sequence func(int) string) (history.Outcome, error) {
	if err != nil {
		if refused(err) {
			return history.Failed, err
		}
		return history.Unknown, err
	}
	return history.OK, c.told(rows, w, sequence)
}

func (c *client) explicit(ctx context.Context, s step, w *work) (history.Outcome, error) {
	_, err := w.rows(ctx, "BEGIN")
	if err == nil {
		err = s.explicit(ctx, w)
	}
	if err == nil {
		var rows [][]string
		told := w.op.IDs
		if rows, err = w.query(ctx, c.ledger(s.kind, "$4::bigint[]", idList(told))); err == nil {
			err = c.told(rows, w, func(i int) string { return told[min(i, len(told)-1)].Sequence })
		}
	}
	if err != nil {
		if !c.sess.lost() {
			if _, rerr := w.rows(ctx, "ROLLBACK"); rerr != nil {
				err = errors.Join(err, rerr)
			}
		}
		return history.Failed, err
	}
	var tag string
	c.trip(ctx, w.op, func(ctx context.Context) { tag, err = c.sess.commit(ctx) })
	switch {
	case err == nil && tag == "COMMIT":
		return history.OK, nil
	case err == nil:
		return history.Failed, fmt.Errorf("COMMIT answered with %s", tag)
	case refused(err):
		return history.Failed, err
	default:
		return history.Unknown, err
	}
}

// told takes what the ledger's row says: the side and the ids.
func (c *client) told(rows [][]string, w *work, sequence func(int) string) error {
	if len(rows) != 1 || len(rows[0]) != 2 {
		w.op.Stale = "the ledger's insert gave " + strconv.Itoa(len(rows)) + " rows"
		return nil
	}
	w.op.Side = rows[0][0]
	return w.setIDs(rows[0][1], sequence)
}
