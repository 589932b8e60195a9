package history

import (
	"context"
	"fmt"
	"slices"

	"crossfade/internal/base/pg"
)

// Options say what Check looks at beside the ledger. A table, bank or Keys that is nil is not
// looked at, nor are the operations on it.
type Options struct {
	Ledger     pg.Name
	Invariants []Invariant
	Lists      *pg.Name // made by ListsDDL
	Registers  *pg.Name // made by RegistersDDL
	Bank       *Bank
	Keys       *Keys
	Switches   int // how often the run changed sides
}

// Check judges ops against the ledger that q reads, which should be that of the
// side active in the end, with no writer left: where a server may still be about to commit
// what a lost connection asked of it, q is a transaction at REPEATABLE READ. A database
// that cannot be read is an error, and so is a history that takes too long to judge; whatever is
// found wrong is in the Result.
func Check(ctx context.Context, q Querier, ops []Operation, opt Options) (Result, error) {
	c := newChecker(ops)
	if err := readLedger(ctx, q, opt.Ledger, c.row); err != nil {
		return Result{}, err
	}
	c.missing()
	c.repeated(ops)
	c.res.Sides = sides(ops)
	c.res.TurnedBack, c.res.Switches = turns(ops, opt.Switches)
	if err := c.data(ctx, q, ops, opt); err != nil {
		return Result{}, err
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

// data runs the checkers of the scenarios that opt names. Called after row, which tells them what
// became of the unknown.
func (c *checker) data(ctx context.Context, q Querier, ops []Operation, opt Options) error {
	if opt.Lists != nil {
		final, err := readLists(ctx, q, *opt.Lists)
		if err != nil {
			return err
		}
		checkLists(&c.res, ops, final)
	}
	if opt.Registers != nil {
		final, err := readRegisters(ctx, q, *opt.Registers)
		if err != nil {
			return err
		}
		if err := checkRegisters(&c.res, ops, final, func(t Token) bool { return c.seen[t] > 0 }); err != nil {
			return err
		}
	}
	if opt.Bank != nil {
		final, err := readBank(ctx, q, *opt.Bank)
		if err != nil {
			return err
		}
		checkBank(&c.res, *opt.Bank, ops, final)
	}
	if opt.Keys != nil {
		final, err := readKeys(ctx, q, *opt.Keys)
		if err != nil {
			return err
		}
		checkKeys(&c.res, ops, final)
	}
	return nil
}

type checker struct {
	res   Result
	ops   map[Token]*Operation
	seen  map[Token]int
	acked map[int][]int64 // each client's acknowledged seqs, ascending
	after map[Token]Token // by a transaction that a later one of its client saw: that one
}

func newChecker(ops []Operation) *checker {
	c := &checker{ops: map[Token]*Operation{}, seen: map[Token]int{}, acked: map[int][]int64{}, after: map[Token]Token{}}
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
	if r.prev > 0 {
		c.after[Token{r.token.Client, r.prev}] = r.token
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
		if later, observed := c.after[t]; observed && o.Outcome != OK && n == 0 {
			c.res.Unobserved.add("%v (%s, %v) was seen by %v, and is not there in the end", t, o.Kind, o.Outcome, later)
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

// timeFormat shows microseconds: a switch takes milliseconds.
const timeFormat = "15:04:05.000000"

func (f *Finding) add(format string, args ...any) {
	f.Count++
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, fmt.Sprintf(format, args...))
	}
}
