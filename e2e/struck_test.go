package e2e_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// struckChunk is so small that the tables below have some hundred chunks.
const struckChunk = 64 << 10

const struckSchema = `
	CREATE TABLE ledger (id int PRIMARY KEY, v text NOT NULL, n int NOT NULL DEFAULT 0);
	CREATE TABLE docs (code text PRIMARY KEY, body text, n int NOT NULL DEFAULT 0);
	ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
	CREATE TABLE whole (id bigint NOT NULL UNIQUE, v text); ALTER TABLE whole REPLICA IDENTITY FULL;
	CREATE TABLE parted (id int, at date, v text, n int NOT NULL DEFAULT 0, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
	CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
	CREATE TABLE hot (id int PRIMARY KEY, n bigint NOT NULL);
	INSERT INTO ledger SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 40000) i;
	INSERT INTO docs SELECT 'doc ' || i, CASE WHEN i % 5 = 0 THEN repeat(i::text, 800) ELSE repeat('w', 300) END FROM generate_series(1, 6000) i;
	INSERT INTO whole SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 15000) i;
	INSERT INTO parted SELECT i, date '2023-01-01' + i % 730, repeat('p', 120) FROM generate_series(1, 20000) i;
	INSERT INTO hot SELECT i, 0 FROM generate_series(1, 20) i`

// struckWrites change few rows of each table, by every kind of change.
var struckWrites = []string{
	`UPDATE ledger SET n = n + 1 WHERE id = 20 * $1`,
	`UPDATE ledger SET id = id + 10000000 WHERE id = 20 * $1 + 7`,
	`DELETE FROM ledger WHERE id = 20 * $1 + 3`,
	`INSERT INTO ledger VALUES (1000000 + $1, 'new') ON CONFLICT (id) DO UPDATE SET n = ledger.n + 1`,
	`UPDATE docs SET n = n + 1 WHERE code = 'doc ' || 5 * $1`,
	`UPDATE docs SET code = code || ', moved' WHERE code = 'doc ' || 10 * $1`,
	`UPDATE whole SET v = 'x' || v WHERE id = 11 * $1`,
	`DELETE FROM whole WHERE id = 33 * $1 + 2`,
	`UPDATE parted SET at = at + 365 WHERE id = 20 * $1 AND at < '2024-01-01'`,
	`UPDATE parted SET n = n + 1 WHERE id = 20 * $1 + 1`,
	`UPDATE hot SET n = n + 1 WHERE id = $1 % 20 + 1`,
}

// strike is one misfortune of a copy.
type strike struct {
	name string
	do   func(t *testing.T, s *sides, p *process)
}

var strikes = []strike{
	{"the daemon is killed", func(_ *testing.T, _ *sides, p *process) { p.kill() }},
	{"a source backend is killed", func(t *testing.T, s *sides, _ *process) { killBackend(t, s, "source") }},
	{"a target backend is killed", func(t *testing.T, s *sides, _ *process) { killBackend(t, s, "target") }},
	{"the target is suspended", func(t *testing.T, s *sides, _ *process) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, s.neon.Suspend(ctx))
	}},
}

// killBackend ends a server process of the copy, or of what follows it, as a lack of memory on the
// machine would: its server ends all others and recovers.
func killBackend(t *testing.T, s *sides, side string) {
	t.Helper()
	_, dsn := s.cluster(side)
	eventually(t, "a session of ours is there", func() bool {
		var pid int
		err := ask(dsn, `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'crossfade %'
			AND pid <> pg_backend_pid() ORDER BY application_name = 'crossfade copy' DESC, random() LIMIT 1`, &pid)
		return err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil
	})
}

// ask runs a query over a connection of its own: the server may be away.
func ask(dsn pg.DSN, sql string, into ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pg.Connect(ctx, dsn, pg.WithName("judge"), pg.WithParam("search_path", "public"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.QueryRow(ctx, sql).Scan(into...)
}

// struckWriters write the source until they are stopped, and log in again when they
// lose it. They return how much they wrote.
func struckWriters(t *testing.T, s *sides, seed uint64) (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for n := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(n)))
			var conn *pgx.Conn
			tick := time.NewTicker(15 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				if conn == nil {
					conn, _ = pg.Connect(ctx, s.source, pg.WithName("application"), pg.WithParam("search_path", "public"))
					continue
				}
				if _, err := conn.Exec(context.Background(), struckWrites[r.IntN(len(struckWrites))], r.IntN(150)); err != nil {
					if !pg.ConnectionLost(err) && !pg.IsCode(err, pg.CodeUniqueViolation, pg.CodeSerializationFailure) { // two of them may move one row
						t.Error(err)
						return
					}
					if conn.IsClosed() {
						conn = nil
					}
					continue
				}
				mu.Lock()
				done++
				mu.Unlock()
			}
			if conn != nil {
				_ = conn.Close(context.Background())
			}
		})
	}
	return sync.OnceValue(func() int {
		cancel()
		wg.Wait()
		return done
	})
}

// chunkLog remembers which transaction recorded each chunk.
type chunkLog map[string]string

// update adds what is recorded now, and fails if a chunk that was recorded before is
// recorded by another transaction: it was copied twice.
func (l chunkLog) update(t *testing.T, dsn pg.DSN) {
	t.Helper()
	var now []string
	eventually(t, "the journal can be read", func() bool {
		return ask(dsn, `SELECT coalesce(array_agg(relid || ' ' || lo || ' ' || hi || '=' || xmin || ' ' || ctid), '{}') FROM crossfade.chunk`, &now) == nil
	})
	found := map[string]string{}
	for _, entry := range now {
		for i := range entry {
			if entry[i] == '=' {
				found[entry[:i]] = entry[i+1:]
			}
		}
	}
	for chunk, by := range l {
		require.Equal(t, by, found[chunk], "chunk %s was finished and copied again", chunk)
	}
	for chunk, by := range found {
		l[chunk] = by
	}
}

// TestCopyIsStruckAtRandomInstants lets misfortunes happen to a copy under writes.
// The seed in the log repeats the choices.
func TestCopyIsStruckAtRandomInstants(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("CROSSFADE_SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("CROSSFADE_SEED=%d", seed)
	rounds, each := 5, 4 // 20 instants, of each kind 5
	if testing.Short() {
		rounds, each = 1, 3
	}
	for round := range rounds {
		t.Run(strconv.Itoa(round+1), func(t *testing.T) { struck(t, seed+uint64(round), each) })
	}
}

func struck(t *testing.T, seed uint64, times int) {
	r := rand.New(rand.NewPCG(seed, 77))
	s := ownSides(t)
	source := pgtest.Conn(t, s.source)
	pgtest.Exec(t, source, struckSchema)
	total := number(t, source, "SELECT sum(pg_table_size(oid))::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace") / struckChunk
	stop := struckWriters(t, s, seed)
	t.Cleanup(func() { stop() })
	p := newProcess(t, s, "--chunk-bytes="+strconv.Itoa(struckChunk), "--jobs=2")
	p.start()

	order := r.Perm(len(strikes))[:times]
	instants := make([]int64, times)
	for i := range instants {
		instants[i] = r.Int64N(total * 8 / 10)
	}
	slices.Sort(instants)
	_, target := s.cluster("target")
	log := chunkLog{}
	for i, which := range order {
		var landed int64
		eventually(t, "the copy goes on", func() bool {
			if err := ask(target, "SELECT count(*) FROM crossfade.chunk", &landed); err != nil {
				if s.neon.Asleep() && p.cmd == nil {
					return true
				}
				return false
			}
			return landed >= instants[i]
		})
		<-time.After(time.Duration(r.IntN(200)) * time.Millisecond) // any instant, not that of a commit
		log.update(t, target)
		t.Logf("after %d of about %d chunks: %s", landed, total, strikes[which].name)
		strikes[which].do(t, s, p)
		if p.cmd == nil {
			p.startUntilItServes()
		}
	}
	p.awaitFollowing()
	log.update(t, target)
	var restarted string
	require.NoError(t, ask(target, `SELECT coalesce(string_agg(rel || ' ' || restarts, ', '), '') FROM crossfade.relation WHERE restarts > 0`, &restarted))
	require.Empty(t, restarted, "tables were copied again")
	st, err := p.client.Status(context.Background())
	require.NoError(t, err)
	t.Logf("%d tables repaired by %d keys", st.Copy.TablesRepaired, st.Copy.KeysRepaired)
	require.Positive(t, stop())
	p.cutover()
	requireSameRows(t, s)
	p.finish()
	require.Equal(t, 0, p.stop())
}

// The repair itself is cut off, after its deletion and after some of its keys.
func TestKilledInTheMiddleOfARepair(t *testing.T) {
	t.Parallel()
	sampleOnly(t)
	s := newSides(t)
	pgtest.Exec(t, pgtest.Conn(t, s.source), struckSchema)
	_, target := s.cluster("target")
	p := newProcess(t, s, "--chunk-bytes="+strconv.Itoa(struckChunk), "--jobs=2")
	log := chunkLog{}
	for n, point := range []string{"copy.chunk=kill@25", "copy.chunk=kill@40", "copy.repair=kill", "copy.repair=kill@2"} {
		p.start(point)
		p.awaitServing()
		stop := struckWriters(t, s, uint64(n))
		require.Equal(t, -1, p.wait(), "the program is killed at %s: %s", point, p.log.tail())
		stop()
		log.update(t, target)
	}
	p.start()
	stop := struckWriters(t, s, 4)
	st := p.awaitFollowing()
	require.Positive(t, stop())
	log.update(t, target)
	require.Zero(t, st.Copy.TablesRestarted)
	require.Positive(t, st.Copy.TablesRepaired)
	require.Positive(t, st.Copy.KeysRepaired)
	require.Equal(t, 0, p.stop())
	p.start() // the figures are kept with the run
	again := p.awaitFollowing()
	require.Equal(t, st.Copy.KeysRepaired, again.Copy.KeysRepaired)
	require.Equal(t, st.Copy.TablesRepaired, again.Copy.TablesRepaired)
	p.cutover()
	requireSameRows(t, s)
	p.finish()
	require.Equal(t, 0, p.stop())
}

// startUntilItServes does what a supervisor does: a program that finds a database
// away when it begins says so and ends.
func (p *process) startUntilItServes() {
	p.t.Helper()
	eventually(p.t, "the program serves", func() bool {
		if p.cmd == nil {
			p.start()
		}
		select {
		case <-p.done:
			p.cmd = nil
			return false
		default:
		}
		st, err := p.client.Status(context.Background())
		return err == nil && st.Active != ""
	})
}
