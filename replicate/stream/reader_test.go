package stream

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
	"crossfade/internal/lab/pgcluster/pgtest"
)

type source struct {
	t    *testing.T
	dsn  pg.DSN
	conn *pgx.Conn
	cfg  Config
}

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{t: t, dsn: pgtest.Database(t, pgtest.Shared(t, pgtest.Source))}
	s.conn = pgtest.Conn(t, s.dsn)
	pgtest.Exec(t, s.conn, `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE unpublished (v text)`)
	pgtest.Exec(t, s.conn, `CREATE PUBLICATION crossfade FOR TABLE a`)
	slot := "s_" + s.dsn.Database()
	start, err := pg.ParseLSN(pgtest.Value(t, s.conn, `SELECT lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')`, slot))
	require.NoError(t, err)
	s.cfg = Config{
		DSN: s.dsn, Slot: slot, Publication: "crossfade", Start: start, Options: []pg.Option{pg.WithName("stream")},
		StatusInterval: 10 * time.Millisecond, IdleInterval: time.Millisecond,
		Retry:  retry.Policy{Initial: 5 * time.Millisecond, Max: 100 * time.Millisecond},
		Logger: zerolog.New(zerolog.NewTestWriter(t)),
	}
	return s
}

// read runs a Reader until the end of the test.
func (s *source) read(change ...func(*Config)) (*Reader, chan error) {
	s.t.Helper()
	cfg := s.cfg
	for _, f := range change {
		f(&cfg)
	}
	r, err := NewReader(cfg)
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			done <- err
		case <-time.After(pgtest.Timeout):
			s.t.Error("the reader did not end")
		}
	})
	return r, done
}

// part waits for the next part that is no Idle.
func (s *source) part(r *Reader) *Part {
	s.t.Helper()
	for {
		select {
		case p := <-r.Parts():
			if p.Idle == 0 {
				return p
			}
			p.Release()
		case <-time.After(pgtest.Timeout):
			s.t.Fatal("no part came")
		}
	}
}

func (s *source) confirmed() pg.LSN {
	s.t.Helper()
	lsn, err := pg.ParseLSN(pgtest.Value(s.t, s.conn, `SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1`, s.cfg.Slot))
	require.NoError(s.t, err)
	return lsn
}

// throughout asks again and again, one question at a time as the connection wants
// it, until the time is over.
func (s *source) throughout(d time.Duration, holds func() bool, why string) {
	s.t.Helper()
	over := time.After(d)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		require.True(s.t, holds(), why)
		select {
		case <-over:
			return
		case <-tick.C:
		}
	}
}

func (s *source) killWalsender() bool {
	s.t.Helper()
	return pgtest.Value(s.t, s.conn, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active`, s.cfg.Slot) == "true"
}

func TestReaderGivesTransactionsInOrder(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	r, _ := s.read()
	pgtest.Exec(t, s.conn, `INSERT INTO a VALUES (1, 'one')`)
	pgtest.Exec(t, s.conn, `BEGIN; UPDATE a SET v = 'two'; DELETE FROM a; SELECT pg_logical_emit_message(true, 'x', 'y'); SELECT pg_logical_emit_message(false, 'x', 'not in it'); COMMIT`)
	first := s.part(r)
	require.True(t, first.First && first.Last)
	require.Equal(t, "one", string(first.Changes[0].NewTuple[1].Data))
	second := s.part(r)
	var kinds []byte
	for _, c := range second.Changes {
		kinds = append(kinds, c.Kind)
	}
	require.Equal(t, "UDM", string(kinds))
	require.Greater(t, second.CommitLSN, first.CommitLSN)
	require.GreaterOrEqual(t, second.CommitLSN, first.EndLSN)
	require.WithinDuration(t, time.Now(), second.Time, time.Minute)
}

func TestSlotMovesOnlyWhenConfirmed(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	r, _ := s.read()
	for i := range 5 {
		pgtest.Exec(t, s.conn, `INSERT INTO a VALUES ($1, 'x')`, i)
	}
	var parts []*Part
	for range 5 {
		parts = append(parts, s.part(r))
	}
	s.throughout(100*time.Millisecond, func() bool { return s.confirmed() == s.cfg.Start }, "ten reports say nothing of what was received")
	r.Confirm(parts[2].EndLSN)
	require.Eventually(t, func() bool { return s.confirmed() == parts[2].EndLSN }, pgtest.Timeout, 5*time.Millisecond)
	r.Confirm(parts[0].EndLSN)
	require.Equal(t, parts[2].EndLSN, r.Confirmed())
}

func TestReaderComesBackWithoutGapOrRepeat(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	r, _ := s.read()
	for i := range 100 {
		pgtest.Exec(t, s.conn, `INSERT INTO a VALUES ($1, 'x')`, i)
		if i%20 == 10 {
			require.Eventually(t, s.killWalsender, pgtest.Timeout, 5*time.Millisecond)
		}
	}
	for i := range 100 {
		require.Equal(t, strconv.Itoa(i), string(s.part(r).Changes[0].NewTuple[0].Data))
	}
}

func TestAnInterruptedLargeTransactionIsTakenBack(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	r, _ := s.read(func(c *Config) { c.PartBytes = 1000; c.MaxBytes = 4000 })
	// More than the sockets hold, so that the source cannot have sent all of it.
	pgtest.Exec(t, s.conn, `INSERT INTO a SELECT i, repeat(md5(i::text), 250) FROM generate_series(1, 3000) i`)
	p := s.part(r)
	require.True(t, p.First && !p.Last)
	require.Eventually(t, s.killWalsender, pgtest.Timeout, 5*time.Millisecond)
	for !p.Void {
		require.False(t, p.Last, "the transaction ended in spite of the kill")
		p.Release()
		p = s.part(r)
	}
	n := 0
	for {
		p = s.part(r)
		require.Equal(t, n == 0, p.First)
		n += len(p.Changes)
		p.Release()
		if p.Last {
			break
		}
	}
	require.Equal(t, 3000, n)
}

func TestABlockedReaderKeepsItsConnection(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	r, done := s.read(func(c *Config) {
		c.PartBytes, c.MaxBytes = 1000, 2000
		c.Options = append(c.Options, pg.WithParam("wal_sender_timeout", "400ms"))
		c.SilenceLimit = 200 * time.Millisecond
	})
	pgtest.Exec(t, s.conn, `INSERT INTO a SELECT i, repeat(md5(i::text), 250) FROM generate_series(1, 2000) i`)
	first := s.part(r)
	pid := pgtest.Value(t, s.conn, `SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1`, s.cfg.Slot)
	require.NotEmpty(t, pid)
	s.throughout(1500*time.Millisecond, func() bool {
		return pid == pgtest.Value(t, s.conn, `SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1`, s.cfg.Slot)
	}, "the source gave up a reader that only waits")
	require.LessOrEqual(t, r.inflight.Load(), int64(2*9000+2000))
	n := len(first.Changes)
	for p := first; !p.Last; n += len(p.Changes) {
		p.Release()
		p = s.part(r)
		require.False(t, p.Void)
	}
	require.Equal(t, 2000, n)
	require.Empty(t, done)
}

func TestIdlePositionsComeAfterWhatWasBeforeThem(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	r, _ := s.read()
	pgtest.Exec(t, s.conn, `INSERT INTO a VALUES (1, 'x')`)
	last := s.part(r).EndLSN
	pgtest.Exec(t, s.conn, `INSERT INTO unpublished SELECT repeat('x', 1000) FROM generate_series(1, 1000)`)
	end, err := pg.ParseLSN(pgtest.Value(t, s.conn, `SELECT pg_current_wal_lsn()`))
	require.NoError(t, err)
	deadline := time.After(pgtest.Timeout)
	for idle := pg.LSN(0); idle < end; {
		select {
		case p := <-r.Parts():
			require.NotZero(t, p.Idle)
			require.GreaterOrEqual(t, p.Idle, last)
			require.Greater(t, p.Idle, idle)
			idle = p.Idle
			r.Confirm(idle)
		case <-deadline:
			t.Fatal("a quiet stream does not move")
		}
	}
	require.Eventually(t, func() bool { return s.confirmed() >= end }, pgtest.Timeout, 5*time.Millisecond)
	pgtest.Exec(t, s.conn, `INSERT INTO a VALUES (2, 'x')`)
	require.Equal(t, "2", string(s.part(r).Changes[0].NewTuple[0].Data))
}

func TestErrorsThatEndTheReader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*source, *Config)
		check  func(*testing.T, error)
	}{
		"no slot": {func(_ *source, c *Config) { c.Slot = "missing" }, func(t *testing.T, err error) {
			require.ErrorAs(t, err, new(*SlotGoneError))
			require.ErrorContains(t, err, "slot missing is not on the source any more")
		}},
		"no publication": {func(s *source, c *Config) {
			c.Publication = "missing"
			pgtest.Exec(s.t, s.conn, `INSERT INTO a VALUES (1, 'x')`)
		}, func(t *testing.T, err error) { require.ErrorContains(t, err, `publication "missing" does not exist`) }},
		"another server": {func(_ *source, c *Config) { c.SystemID = "12345" }, func(t *testing.T, err error) {
			var changed *SystemChangedError
			require.ErrorAs(t, err, &changed)
		}},
		"slot advanced": {func(s *source, c *Config) {
			pgtest.Exec(s.t, s.conn, `INSERT INTO a VALUES (1, 'x')`)
			pgtest.Exec(s.t, s.conn, `SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, c.Slot)
		}, func(t *testing.T, err error) {
			var advanced *SlotAdvancedError
			require.ErrorAs(t, err, &advanced)
		}},
		"slot made again": {func(s *source, c *Config) {
			pgtest.Exec(s.t, s.conn, `INSERT INTO a VALUES (1, 'x')`)
			pgtest.Exec(s.t, s.conn, `SELECT pg_drop_replication_slot($1)`, c.Slot)
			pgtest.Exec(s.t, s.conn, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, c.Slot)
		}, func(t *testing.T, err error) {
			require.ErrorAs(t, err, new(*SlotAdvancedError))
		}},
		// As a source that was set back to a backup of its disk: what it writes next has
		// positions that we were past already.
		"source set back": {func(_ *source, c *Config) { c.Start += 1 << 40 }, func(t *testing.T, err error) {
			require.ErrorAs(t, err, new(*SourceRewoundError))
		}},
		"wrong password": {func(s *source, c *Config) { c.DSN = s.dsn.WithUser(s.dsn.User(), "wrong") }, func(t *testing.T, err error) {
			require.Equal(t, pg.CodeInvalidPassword, pg.Code(err))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t)
			_, done := s.read(func(cfg *Config) { c.change(s, cfg) })
			select {
			case err := <-done:
				done <- err
				require.True(t, retry.IsPermanent(err), err)
				c.check(t, err)
			case <-time.After(pgtest.Timeout):
				t.Fatal("the reader goes on")
			}
		})
	}
}

func TestASlotInUseIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	ctx, cancel := context.WithCancel(context.Background())
	first, err := NewReader(s.cfg)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	require.Eventually(t, first.Connected, pgtest.Timeout, time.Millisecond)
	second, _ := s.read()
	require.Never(t, second.Connected, 100*time.Millisecond, 10*time.Millisecond)
	cancel()
	require.True(t, errors.Is(<-ended, context.Canceled))
	require.Eventually(t, second.Connected, pgtest.Timeout, time.Millisecond)
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	good, err := pg.ParseDSN("host=localhost dbname=x")
	require.NoError(t, err)
	ok := Config{DSN: good, Slot: "s", Publication: "p", Start: 1}
	require.NoError(t, ok.Validate())
	for _, f := range []func(*Config){
		func(c *Config) { c.DSN = pg.DSN{} }, func(c *Config) { c.Slot = "" }, func(c *Config) { c.Publication = "" },
		func(c *Config) { c.Start = 0 }, func(c *Config) { c.MaxBytes = -1 }, func(c *Config) { c.Retry.MaxAttempts = -1 },
	} {
		bad := ok
		f(&bad)
		require.Error(t, bad.Validate())
		_, err := NewReader(bad)
		require.Error(t, err)
	}
}
