package workload

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
)

// Keys are requests with idempotency keys. A client tries a request until it has an answer, the
// same key each time, so that it takes effect once even where a connection was lost with the
// answer to a COMMIT. Half of the keys are those of one client; at the others all clients try, each
// in its turn, so that several meet at one key and most are told that it is there.
type Keys struct{}

// Ledger implements Scenario.
func (Keys) Ledger() pg.Name { return pg.Name{Schema: "keys", Name: "ledger"} }

func (Keys) tables() history.Keys {
	return history.Keys{Claims: pg.Name{Schema: "keys", Name: "claims"}, Effects: pg.Name{Schema: "keys", Name: "effects"}}
}

func (Keys) searchPath() string { return "keys" }

// Invariants implements Scenario: what there must be of a key is judged from the operations.
func (Keys) Invariants() []history.Invariant { return nil }

func (k Keys) judged(opt *history.Options) {
	tables := k.tables()
	opt.Keys = &tables
}

// Load makes the schema. The database has none of that name.
func (k Keys) Load(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, "CREATE SCHEMA keys; "+k.tables().DDL()+"; "+history.LedgerDDL(k.Ledger())).ReadAll()
	return pg.Wrap(err, "load the keys")
}

// requester is one client's memory.
type requester struct {
	rng     *rand.Rand
	own     int
	common  int
	pending string // key of a request without an answer; "" for none
}

func (Keys) steps(rng *rand.Rand) []step {
	p := &requester{rng: rng}
	return []step{{kind: "request", weight: 1, explicit: p.try}}
}

func (p *requester) key(client int) string {
	if p.rng.IntN(2) == 0 {
		p.own++
		return fmt.Sprintf("client %d request %d", client, p.own)
	}
	p.common++
	return fmt.Sprintf("common request %d", p.common)
}

// try makes one attempt at a request: the one that still has no answer, if there is one.
func (p *requester) try(ctx context.Context, w *work) error {
	if p.pending == "" {
		p.pending = p.key(w.op.Token.Client)
	}
	a := &history.Attempt{Key: p.pending}
	w.op.Attempt = a
	w.remember(func() { p.pending = "" })
	rows, err := w.rows(ctx, "INSERT INTO claims (key) VALUES ($1::text) ON CONFLICT (key) DO NOTHING RETURNING key", a.Key)
	if err != nil {
		return err
	}
	if a.New = len(rows) == 1; !a.New {
		return nil
	}
	_, err = w.insert(ctx, "keys.effects_id_seq", "INSERT INTO effects (key, client, seq) VALUES ($1::text, $2::int, $3::bigint) RETURNING id",
		a.Key, int64(w.op.Token.Client), w.op.Token.Seq)
	return err
}
