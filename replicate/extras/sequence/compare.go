package sequence

import (
	"context"
	"fmt"
	"math/big"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Behind is a sequence of one side that would hand out values again which the other side has handed
// out, or that is not there.
type Behind struct {
	Name     pg.Name
	Missing  bool // on the side that is looked at
	From, To State
}

// String says what is wrong with it, seen from the side that should be ahead.
func (b Behind) String() string {
	if b.Missing {
		return "the sequence does not exist at the target"
	}
	return fmt.Sprintf("the source is at %d and the target at %d, which is behind", b.From.Last, b.To.Last)
}

// FindBehind lists the sequences of from that to lacks, and those whose next value at to was handed
// out at from already, in the direction of the sequence's increment there; n is how many were
// compared. A sequence that cycles is only looked for: its values repeat anyway. With missingOnly the
// positions are not compared.
func FindBehind(ctx context.Context, from, to Querier, missingOnly bool) (behind []Behind, n int, err error) {
	here, err := Read(ctx, from)
	if err != nil {
		return nil, 0, fmt.Errorf("source: %w", err)
	}
	there, err := Read(ctx, to)
	if err != nil {
		return nil, 0, fmt.Errorf("target: %w", err)
	}
	steps, err := pg.SelectMap(ctx, to, func(name *pg.Name, s *step) []any {
		return []any{&name.Schema, &name.Name, &s.increment, &s.cycles}
	}, `SELECT n.nspname::text, c.relname::text, q.seqincrement, q.seqcycle FROM pg_catalog.pg_sequence q
		JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`)
	if err != nil {
		return nil, 0, fmt.Errorf("target: read sequences: %w", err)
	}
	at := lists.By(there, func(s State) pg.Name { return s.Name })
	for _, s := range here {
		other, ok := at[s.Name]
		by := steps[s.Name]
		switch {
		case !ok:
			behind = append(behind, Behind{Name: s.Name, Missing: true, From: s})
		case missingOnly || by.cycles:
		case by.before(other, s):
			behind = append(behind, Behind{Name: s.Name, From: s, To: other})
		}
	}
	return behind, len(here), nil
}

// step is how a sequence moves.
type step struct {
	increment int64
	cycles    bool
}

// before reports whether a hands out its next value before b does.
func (s step) before(a, b State) bool {
	return s.next(a).Cmp(s.next(b))*big.NewInt(s.increment).Sign() < 0
}

// next is the value that a sequence hands out next; it may lie beyond the type's bounds.
func (s step) next(x State) *big.Int {
	n := big.NewInt(x.Last)
	if x.Called {
		n.Add(n, big.NewInt(s.increment))
	}
	return n
}
