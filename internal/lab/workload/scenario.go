package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

// Scenario is what the clients do: Shop, Library, Pagila, Lists, Registers, Bank or Keys.
type Scenario interface {
	// Ledger is the table that the clients write their tokens into.
	Ledger() pg.Name
	// Invariants hold in every state of the scenario's data.
	Invariants() []history.Invariant

	searchPath() string
	// steps returns what one client does. The steps share that client's memory,
	// such as the rows that are its own, and are called by its goroutine.
	steps(rng *rand.Rand) []step
}

// Options says what history.Check is to look at after clients of a scenario ran while the database
// changed sides so often.
func Options(sc Scenario, switches int) history.Options {
	opt := history.Options{Ledger: sc.Ledger(), Invariants: sc.Invariants(), Switches: switches}
	if has, ok := sc.(interface{ judged(*history.Options) }); ok {
		has.judged(&opt)
	}
	return opt
}

// step is one sort of transaction or read; one of the functions is set.
type step struct {
	kind     string
	weight   int                                // how often, against the other steps'
	possible func() bool                        // nil: always
	explicit func(context.Context, *work) error // statements between BEGIN and COMMIT
	single   func(*work) single
	burst    func(*work) burst
	read     func(context.Context, *work) error
}

// single is one statement that is a transaction. Its body is a statement with a
// RETURNING list of one bigint column, which the ledger's row takes as its ids
// when sequence is named.
type single struct {
	body     statement
	sequence string
}

// burst is a list of statements sent as one implicit transaction. None gives
// rows; ids is an expression for the ledger, such as ARRAY[currval('s')].
type burst struct {
	statements []statement
	ids        string
	sequences  []string // of each element of ids
}

// work is one transaction or read of a client as its step sees it.
type work struct {
	op    *history.Operation
	query func(context.Context, statement) ([][]string, error)
	acked []func() // run when the outcome is ok: what the client remembers
}

// rows runs one statement.
func (w *work) rows(ctx context.Context, text string, args ...any) ([][]string, error) {
	return w.query(ctx, sql(text, args...))
}

// one runs a statement on a row that the client knows to be there: if it gives
// no row, an acknowledged write of the client is missing.
func (w *work) one(ctx context.Context, text string, args ...any) error {
	rows, err := w.rows(ctx, text, args...)
	if err == nil && len(rows) != 1 {
		w.op.Stale = fmt.Sprintf("%d rows for a row of the client's own: %s, %v", len(rows), text, args)
	}
	return err
}

// insert runs a statement that returns numbers from a sequence.
func (w *work) insert(ctx context.Context, sequence, text string, args ...any) ([]int64, error) {
	rows, err := w.rows(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, 0, len(rows))
	for _, r := range rows {
		id, err := strconv.ParseInt(r[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read an id of %s: %w", sequence, err)
		}
		ids = append(ids, id)
		w.op.IDs = append(w.op.IDs, history.ID{Sequence: sequence, Value: id})
	}
	return ids, nil
}

// remember calls f when the transaction was acknowledged.
func (w *work) remember(f func()) { w.acked = append(w.acked, f) }

// setIDs reads the ids that a ledger row holds, "1,2,3".
func (w *work) setIDs(list string, sequence func(i int) string) error {
	w.op.IDs = nil
	if list == "" {
		return nil
	}
	for i, s := range strings.Split(list, ",") {
		id, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("read ids of the ledger: %w", err)
		}
		w.op.IDs = append(w.op.IDs, history.ID{Sequence: sequence(i), Value: id})
	}
	return nil
}

// owned is a bounded list of rows that belong to one client.
type owned []int64

// maxOwned keeps a client's memory small; older rows are left alone.
const maxOwned = 200

func (o *owned) add(id int64) {
	if len(*o) == maxOwned {
		*o = append((*o)[:0], (*o)[1:]...)
	}
	*o = append(*o, id)
}

func (o *owned) any(rng *rand.Rand) int64 { return (*o)[rng.IntN(len(*o))] }

func (o *owned) remove(id int64) {
	for i, v := range *o {
		if v == id {
			*o = append((*o)[:i], (*o)[i+1:]...)
			return
		}
	}
}

func (o *owned) some() bool { return len(*o) > 0 }
