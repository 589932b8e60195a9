package history_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/pgcluster/pgtest"
)

var (
	ledger = pg.Name{Schema: "public", Name: "ledger"}
	epoch  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// op is a transaction that took the n-th second.
func op(client int, seq int64, n int, side string, out history.Outcome, ids ...int64) history.Operation {
	o := history.Operation{Token: history.Token{Client: client, Seq: seq}, Kind: "test", Outcome: out, Side: side,
		Start: epoch.Add(time.Duration(n) * time.Second), End: epoch.Add(time.Duration(n)*time.Second + 500*time.Millisecond)}
	for _, v := range ids {
		o.IDs = append(o.IDs, history.ID{Sequence: "s", Value: v})
	}
	return o
}

// clean is a history of two clients over one switch, and the ledger that fits.
func clean() []history.Operation {
	return []history.Operation{
		op(1, 1, 1, "a", history.OK, 10, 11),
		op(2, 1, 1, "a", history.OK, 12),
		op(1, 2, 2, "", history.Failed),
		op(1, 3, 3, "a", history.OK),
		op(2, 2, 4, "", history.Unknown),
		op(1, 4, 5, "b", history.OK, 13),
		op(2, 3, 6, "b", history.OK, 14),
		{Token: history.Token{Client: 1}, Kind: "read", Start: epoch, End: epoch},
	}
}

const insertClean = `INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES
	(1, 1, 'test', 0, 'a', '{10,11}'), (2, 1, 'test', 0, 'a', '{12}'),
	(1, 3, 'test', 1, 'a', '{}'), (1, 4, 'test', 3, 'b', '{13}'), (2, 3, 'test', 1, 'b', '{14}')`

func TestCheck(t *testing.T) {
	t.Parallel()
	sum := history.Invariant{Name: "sum", SQL: `SELECT sum(n) = 3, 'sum is ' || coalesce(sum(n)::text, 'nothing') FROM account`}
	for name, tc := range map[string]struct {
		sql   string                                             // harm to the database
		ops   func([]history.Operation) []history.Operation      // harm to the history
		count func(history.Result) (history.Finding, func() int) // what must see it
		want  int
		says  string
	}{
		"clean": {},
		"lost": {sql: `DELETE FROM ledger WHERE client = 1 AND seq = 3`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Lost }), want: 1, says: "client 1 transaction 3"},
		"all lost": {sql: `DELETE FROM ledger`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Lost }), want: 5},
		"doubled": {sql: `INSERT INTO ledger (client, seq, kind, prev, side, ids) SELECT client, seq, kind, prev, side, ids FROM ledger WHERE client = 2`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Doubled }), want: 2, says: "client 2"},
		"unknown is there once": {sql: `INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES (2, 2, 'test', 1, 'a', '{}')`},
		"unknown doubled": {sql: `INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES (2, 2, 'test', 1, 'a', '{}'), (2, 2, 'test', 1, 'a', '{}')`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Doubled }), want: 1, says: "unknown"},
		"phantom": {sql: `INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES (1, 2, 'test', 1, 'a', '{}')`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Phantom }), want: 1, says: "client 1 transaction 2"},
		"unrecorded": {sql: `INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES (9, 1, 'test', 0, 'a', '{}')`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Unrecorded }), want: 1, says: "client 9"},
		"altered ids": {sql: `UPDATE ledger SET ids = '{10,99}' WHERE client = 1 AND seq = 1`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Altered }), want: 1, says: "99"},
		"altered side": {sql: `UPDATE ledger SET side = 'c' WHERE client = 1 AND seq = 1`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Altered }), want: 1},
		"unknown seen and then not there": {sql: `UPDATE ledger SET prev = 2 WHERE client = 2 AND seq = 3`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Unobserved }), want: 1, says: "seen by client 2 transaction 3"},
		"unknown seen and there": {sql: `UPDATE ledger SET prev = 2 WHERE client = 2 AND seq = 3;
			INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES (2, 2, 'test', 1, 'a', '{}')`},
		"own write not seen": {sql: `UPDATE ledger SET prev = 1 WHERE client = 1 AND seq = 4`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Disordered }), want: 1, says: "though 3"},
		"later write seen": {sql: `UPDATE ledger SET prev = 4 WHERE client = 1 AND seq = 3`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Disordered }), want: 1},
		"id handed out twice": {
			sql: `UPDATE ledger SET ids = '{12}' WHERE client = 2 AND seq = 3`,
			ops: func(ops []history.Operation) []history.Operation {
				ops[6].IDs[0].Value = 12
				return ops
			},
			count: finding(func(r *history.Result) *history.Finding { return &r.Repeated }), want: 1, says: "s 12"},
		"id of a failed transaction again": {
			ops: func(ops []history.Operation) []history.Operation {
				ops[2].IDs = []history.ID{{Sequence: "s", Value: 14}}
				return ops
			}},
		"id of an unknown transaction that is not there again": {
			ops: func(ops []history.Operation) []history.Operation {
				ops[4].IDs = []history.ID{{Sequence: "s", Value: 14}}
				return ops
			}},
		"id of an unknown transaction that is there again": {
			sql: `INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES (2, 2, 'test', 1, 'a', '{14}')`,
			ops: func(ops []history.Operation) []history.Operation {
				ops[4].IDs = []history.ID{{Sequence: "s", Value: 14}}
				return ops
			},
			count: finding(func(r *history.Result) *history.Finding { return &r.Repeated }), want: 1, says: "s 14"},
		"source answers after the target": {
			sql: `UPDATE ledger SET side = 'a' WHERE client = 2 AND seq = 3`,
			ops: func(ops []history.Operation) []history.Operation {
				ops[6].Side = "a"
				return ops
			},
			count: finding(func(r *history.Result) *history.Finding { return &r.TurnedBack }), want: 1, says: "client 2 transaction 3 of side a"},
		"stale read": {
			ops: func(ops []history.Operation) []history.Operation {
				ops[7].Stale = "transaction 3 is not there"
				return ops
			},
			count: finding(func(r *history.Result) *history.Finding { return &r.Stale }), want: 1, says: "not there"},
		"token twice in the history": {
			ops: func(ops []history.Operation) []history.Operation {
				return append(ops, ops[3])
			},
			count: finding(func(r *history.Result) *history.Finding { return &r.Unrecorded }), want: 1, says: "twice"},
		"invariant broken": {sql: `UPDATE account SET n = n + 1 WHERE id = 1`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Broken }), want: 1, says: "sum is 4"},
		"invariant without data": {sql: `DELETE FROM account`,
			count: finding(func(r *history.Result) *history.Finding { return &r.Broken }), want: 1, says: "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
			pgtest.Exec(t, conn, history.LedgerDDL(ledger))
			pgtest.Exec(t, conn, `CREATE TABLE account (id int PRIMARY KEY, n int); INSERT INTO account VALUES (1, 1), (2, 2)`)
			pgtest.Exec(t, conn, insertClean)
			ops := clean()
			if tc.sql != "" {
				pgtest.Exec(t, conn, tc.sql)
			}
			if tc.ops != nil {
				ops = tc.ops(ops)
			}
			res := judge(t, conn, ops, history.Options{Ledger: ledger, Invariants: []history.Invariant{sum}, Switches: 1})
			var text strings.Builder
			require.NoError(t, res.Print(&text))
			if tc.count == nil {
				require.NoError(t, res.Err(), text.String())
				require.True(t, res.OK())
				require.Equal(t, 5, res.Found)
				require.Equal(t, 1, res.Reads)
				require.NotContains(t, text.String(), "FAULT")
				return
			}
			found, others := tc.count(res)
			require.Equal(t, tc.want, found.Count, text.String())
			require.Zero(t, others(), "other checkers speak up too:\n%s", text.String())
			require.Contains(t, strings.Join(found.Examples, "\n"), tc.says)
			require.False(t, res.OK())
			require.Error(t, res.Err())
			require.Contains(t, text.String(), "FAULT")
		})
	}
}

// finding picks one sort of fault and counts whatever else is wrong.
func finding(of func(*history.Result) *history.Finding) func(history.Result) (history.Finding, func() int) {
	return func(r history.Result) (history.Finding, func() int) {
		f := *of(&r)
		return f, func() int {
			*of(&r) = history.Finding{}
			if r.OK() {
				return 0
			}
			return 1
		}
	}
}

func judge(t *testing.T, q history.Querier, ops []history.Operation, opt history.Options) history.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), pgtest.Timeout)
	defer cancel()
	res, err := history.Check(ctx, q, ops, opt)
	require.NoError(t, err)
	return res
}

// TestTheLedgerTellsWhatBecameOfAnUnknownWrite: what a register holds is explained by it where the ledger has its transaction, and
// by nothing where that is not there.
func TestTheLedgerTellsWhatBecameOfAnUnknownWrite(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	registers := pg.Name{Schema: "public", Name: "registers"}
	pgtest.Exec(t, conn, history.LedgerDDL(ledger)+"; "+history.RegistersDDL(registers)+"; INSERT INTO registers VALUES (1, 7); "+insertClean+
		"; INSERT INTO ledger (client, seq, kind, prev, side, ids) VALUES (2, 2, 'test', 1, 'a', '{}')")
	ops := clean()
	require.Equal(t, history.Unknown, ops[4].Outcome)
	ops[4].Register = &history.RegisterOp{Key: 1, Kind: history.WriteRegister, New: 7}
	opt := history.Options{Ledger: ledger, Registers: &registers, Switches: 1}
	require.NoError(t, judge(t, conn, ops, opt).Err())
	pgtest.Exec(t, conn, "DELETE FROM ledger WHERE client = 2 AND seq = 2")
	require.Equal(t, 1, judge(t, conn, ops, opt).NotLinearizable.Count)
}

func TestCheckCannotRead(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	_, err := history.Check(context.Background(), conn, nil, history.Options{Ledger: ledger})
	require.True(t, pg.IsCode(err, pg.CodeUndefinedTable), "%v", err)
	pgtest.Exec(t, conn, history.LedgerDDL(ledger))
	for _, sql := range []string{"SELECT true, 'x' WHERE false", "SELECT nonsense"} {
		_, err = history.Check(context.Background(), conn, nil, history.Options{Ledger: ledger,
			Invariants: []history.Invariant{{Name: "odd", SQL: sql}}})
		require.ErrorContains(t, err, "odd")
	}
}

func TestSideSQLTellsClustersApart(t *testing.T) {
	t.Parallel()
	side := func(k pgtest.Kind) string {
		conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, k)))
		var s string
		require.NoError(t, conn.QueryRow(context.Background(), "SELECT "+history.SideSQL, pgx.QueryExecModeSimpleProtocol).Scan(&s))
		return s
	}
	require.NotEqual(t, side(pgtest.Source), side(pgtest.Target))
}
