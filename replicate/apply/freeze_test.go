package apply_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
	"crossfade/replicate/slot"
	"crossfade/replicate/snapshot"
)

// cutter makes cuts with temporary slots, and keeps what the source showed at the last one.
type cutter struct {
	w    *world
	read func(*pgx.Conn) string
	n    int
	seen string
}

func (c *cutter) cut(ctx context.Context) (apply.Cut, error) {
	c.n++
	connect := func(ctx context.Context) (*pgx.Conn, error) {
		return pg.Connect(ctx, c.w.source, pg.WithName("verify"))
	}
	s, err := slot.Create(ctx, slot.Config{Name: fmt.Sprintf("cut_%s_%d", c.w.source.Database(), c.n), Temporary: true, Connect: connect,
		Replication: func(ctx context.Context) (*pgconn.PgConn, error) { return pg.ConnectReplication(ctx, c.w.source) }})
	if err != nil {
		return apply.Cut{}, err
	}
	defer s.Release()
	h, err := snapshot.Import(ctx, connect, s.Snapshot)
	if err != nil {
		return apply.Cut{}, err
	}
	defer h.Close()
	conn, err := connect(ctx)
	if err != nil {
		return apply.Cut{}, err
	}
	defer snapshot.Close(conn)
	err = h.Read(ctx, conn, 0, func() error {
		c.seen = c.read(conn)
		return nil
	})
	return apply.Cut{Snapshot: h.Snapshot(), LSN: s.ConsistentPoint}, err
}

// Under load, the target is at each freeze exactly what the slot's snapshot shows of the source.
func TestAFreezeShowsTheSourcesSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE public.ledger (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, client int, n int); CREATE TABLE public.accounts (id int PRIMARY KEY, n int)`,
		`INSERT INTO public.accounts SELECT i, 0 FROM generate_series(1, 20) i`)
	r := w.follow(func(c *apply.Config) { c.Heartbeat = time.Hour; c.BatchAge = 50 * time.Millisecond })
	load, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer stop()
	for client := range 4 {
		conn := pgtest.Conn(t, w.source)
		clients.Go(func() {
			for n := 0; load.Err() == nil; n++ {
				_, err := conn.Exec(context.Background(), fmt.Sprintf(`BEGIN; INSERT INTO public.ledger (client, n) VALUES (%d, %d);
					UPDATE public.accounts SET n = n + 1 WHERE id = %d; COMMIT`, client, n, client+1))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	c := &cutter{w: w, read: func(conn *pgx.Conn) string {
		return rows(t, conn, "public.ledger") + "\n" + rows(t, conn, "public.accounts")
	}}
	target := pgtest.Conn(t, w.target)
	last := ""
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), pgtest.Timeout)
		err := r.Freeze(ctx, c.cut, func(context.Context) error {
			require.Equal(t, c.seen, c.read(target))
			return nil
		})
		cancel()
		require.NoError(t, err)
		require.NotEqual(t, last, c.seen, "the load goes on")
		last = c.seen
	}
	stop()
	clients.Wait()
	w.drain(r)
	w.same("public.ledger", "public.accounts")
}

// What is merged into one batch without a freeze is parted at the cut.
func TestAFreezePartsABatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow(func(c *apply.Config) { c.Heartbeat = time.Hour })
	c := &cutter{w: w, read: func(conn *pgx.Conn) string { return rows(t, conn, "public.people") }}
	err := r.Freeze(t.Context(), func(ctx context.Context) (apply.Cut, error) {
		w.do(`UPDATE people SET name = 'before' WHERE id = 1`)
		cut, err := c.cut(ctx)
		w.do(`UPDATE people SET name = 'after' WHERE id = 1`)
		w.do(`DELETE FROM people WHERE id = 2`)
		return cut, err
	}, func(context.Context) error {
		require.Equal(t, c.seen, rows(t, w.dst, "public.people"))
		require.Contains(t, c.seen, "before")
		return nil
	})
	require.NoError(t, err)
	w.drain(r)
	w.same("people")
}

// A source that nobody writes to reaches its cut by a heartbeat, which is written at once.
func TestAQuietSourceIsFrozenAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow(func(c *apply.Config) { c.Heartbeat = time.Hour })
	c := &cutter{w: w, read: func(conn *pgx.Conn) string { return rows(t, conn, "public.people") }}
	for range 3 {
		require.NoError(t, r.Freeze(t.Context(), c.cut, func(context.Context) error {
			require.Equal(t, c.seen, rows(t, w.dst, "public.people"))
			return nil
		}))
	}
}

// A freeze that does not come about holds nothing up afterwards.
func TestAFreezeIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := r.Freeze(short, func(ctx context.Context) (apply.Cut, error) {
		w.do(`UPDATE people SET name = 'meanwhile'`)
		<-ctx.Done()
		return apply.Cut{}, ctx.Err()
	}, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	w.drain(r)
	w.same("people")

	// The cut is never reached: its snapshot is of a time that does not come.
	short, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = r.Freeze(short, func(context.Context) (apply.Cut, error) {
		return apply.Cut{Snapshot: pg.Snapshot{Xmin: 1 << 40, Xmax: 1 << 40}, LSN: 1 << 60}, nil
	}, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	w.do(`UPDATE people SET name = 'again'`)
	w.drain(r)
	w.same("people")

	failed := errors.New("no snapshot")
	err = r.Freeze(t.Context(), func(context.Context) (apply.Cut, error) { return apply.Cut{}, failed }, nil)
	require.Equal(t, failed, err)
	w.marker(r)
	require.ErrorIs(t, r.Freeze(t.Context(), nil, nil), apply.ErrHeld)
	r.Continue()
	require.NoError(t, r.stop())
	require.ErrorContains(t, r.Freeze(t.Context(), nil, nil), "following ended")
}

// A target that is lost within a freeze is frozen by the session after it.
func TestAFreezeOutlivesASession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, people, fillPeople)
	r := w.follow(func(c *apply.Config) { c.Heartbeat = time.Hour })
	c := &cutter{w: w, read: func(conn *pgx.Conn) string { return rows(t, conn, "public.people") }}
	kill := func() {
		pgtest.Exec(t, w.dst, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'crossfade apply%'`)
	}
	err := r.Freeze(t.Context(), func(ctx context.Context) (apply.Cut, error) {
		w.do(`UPDATE people SET name = 'before'`)
		kill()
		cut, err := c.cut(ctx)
		w.do(`UPDATE people SET name = 'after'`)
		return cut, err
	}, func(context.Context) error {
		require.Equal(t, c.seen, rows(t, w.dst, "public.people"))
		kill()
		require.Never(t, func() bool { return c.seen != rows(t, w.dst, "public.people") }, 300*time.Millisecond, 10*time.Millisecond)
		return nil
	})
	require.NoError(t, err)
	w.drain(r)
	w.same("people")
}
