package history

import (
	"context"
	"fmt"
	"slices"

	"crossfade/internal/base/pg"
)

// Options say what Check looks at beside the ledger.
type Options struct {
	Ledger     pg.Name
	Invariants []Invariant
	Lists      *pg.Name // of the operations on lists; nil for none
	Switches   int      // how often the run changed sides
}

// Check judges ops against the ledger that q reads, which should be that of the
// side active in the end, with no writer left. A database that cannot be read
// is an error; whatever is found wrong is in the Result.
func Check(ctx context.Context, q Querier, ops []Operation, opt Options) (Result, error) {
	c := newChecker(ops)
	if err := readLedger(ctx, q, opt.Ledger, c.row); err != nil {
		return Result{}, err
	}
	c.missing()
	c.repeated(ops)
	c.res.Sides = sides(ops)
	c.turns(ops, opt.Switches)
	if opt.Lists != nil {
		final, err := readLists(ctx, q, *opt.Lists)
		if err != nil {
			return Result{}, err
		}
		checkLists(&c.res, ops, final)
	}
	for _, iv := range opt.Invariants {
		holds, detail, err := iv.check(ctx, q)
		if err != nil {
			return Result{}, err
		}
		c.res.Invariants++
		if !holds {
			c.res.Broken.add("%s: %s", iv.Name, detail)
		}
	}
	return c.res, nil
}

type checker struct {
	res   Result
	ops   map[Token]*Operation
	seen  map[Token]int
	acked map[int][]int64 // each client's acknowledged seqs, ascending
}

func newChecker(ops []Operation) *checker {
	c := &checker{ops: map[Token]*Operation{}, seen: map[Token]int{}, acked: map[int][]int64{}}
	for i := range ops {
		o := &ops[i]
		if o.Stale != "" {
			c.res.Stale.add("client %d, %s: %s", o.Token.Client, o.Kind, o.Stale)
		}
		if o.Token.Seq == 0 {
			c.res.Reads++
			if o.Outcome != OK {
				c.res.FailedReads++
			}
			continue
		}
		if c.ops[o.Token] != nil {
			c.res.Unrecorded.add("%v: the history has it twice", o.Token)
			continue
		}
		c.ops[o.Token] = o
		switch o.Outcome {
		case OK:
			c.res.Acknowledged++
			c.acked[o.Token.Client] = append(c.acked[o.Token.Client], o.Token.Seq)
		case Failed:
			c.res.Failed++
		default:
			c.res.Unknown++
		}
	}
	for _, seqs := range c.acked {
		slices.Sort(seqs)
	}
	return c
}

// row judges one row of the ledger.
func (c *checker) row(r row) {
	c.res.Rows++
	o := c.ops[r.token]
	if o == nil {
		c.res.Unrecorded.add("%v", r.token)
		return
	}
	c.seen[r.token]++
	if n := c.seen[r.token]; n > 1 {
		c.res.Doubled.add("%v (%s, %v): row %d", r.token, o.Kind, o.Outcome, n)
	}
	if o.Outcome == Failed {
		c.res.Phantom.add("%v (%s): %s", r.token, o.Kind, o.Error)
	}
	if o.Outcome == OK {
		told := make([]int64, len(o.IDs))
		for i, id := range o.IDs {
			told[i] = id.Value
		}
		if !slices.Equal(told, r.ids) {
			c.res.Altered.add("%v (%s): told ids %v, the ledger has %v", r.token, o.Kind, told, r.ids)
		}
		if o.Side != "" && o.Side != r.side {
			c.res.Altered.add("%v (%s): told side %s, the ledger has %s", r.token, o.Kind, o.Side, r.side)
		}
	}
	acked := c.acked[r.token.Client]
	if i, _ := slices.BinarySearch(acked, r.token.Seq); i > 0 && r.prev < acked[i-1] {
		c.res.Disordered.add("%v saw up to %d, though %d had been acknowledged", r.token, r.prev, acked[i-1])
	}
	if r.prev >= r.token.Seq {
		c.res.Disordered.add("%v saw %d, which came after it", r.token, r.prev)
	}
}

// missing counts what is there once, and what is not there.
func (c *checker) missing() {
	for t, o := range c.ops {
		n := c.seen[t]
		switch {
		case o.Outcome == OK && n == 0:
			c.res.Lost.add("%v (%s), acknowledged at %s", t, o.Kind, o.End.UTC().Format(timeFormat))
		case o.Outcome == OK && n == 1:
			c.res.Found++
		case o.Outcome == Unknown && n > 0:
			c.res.UnknownFound++
		}
	}
}

// repeated looks for ids that two transactions of those that took place were given.
// Called after row.
func (c *checker) repeated(ops []Operation) {
	first := map[ID]Token{}
	for _, o := range ops {
		if o.Outcome == Failed || o.Outcome == Unknown && c.seen[o.Token] == 0 {
			continue
		}
		for _, id := range o.IDs {
			c.res.IDs++
			if t, again := first[id]; again {
				c.res.Repeated.add("%s %d: %v and %v", id.Sequence, id.Value, t, o.Token)
				continue
			}
			first[id] = o.Token
		}
	}
}

func (c *checker) turns(ops []Operation, allowed int) {
	for i, ch := range changes(ops) {
		c.res.Switches++
		if i >= allowed {
			c.res.TurnedBack.add("%v of side %s ended at %s, %v of side %s began at %s",
				ch.before.Token, ch.before.Side, ch.before.End.UTC().Format(timeFormat),
				ch.after.Token, ch.after.Side, ch.after.Start.UTC().Format(timeFormat))
		}
	}
}

// timeFormat shows microseconds: a switch takes milliseconds.
const timeFormat = "15:04:05.000000"

func (f *Finding) add(format string, args ...any) {
	f.Count++
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, fmt.Sprintf(format, args...))
	}
}
