package proxy

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// TestMovesUnderLoad has eight clients write in every query mode, in transactions
// and pipelines, while all sessions move to and fro. No client may see an error, and
// every acknowledged row must be on exactly one side.
func TestMovesUnderLoad(t *testing.T) {
	t.Parallel()
	const clients, moves = 8, 12
	g := newRig(t)
	g.both(t, "CREATE TABLE public.acked (client int, n int, side text, PRIMARY KEY (client, n))")
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var written atomic.Int64
	errs := make(chan error, clients)
	for i := range clients {
		conn := g.dial(t, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = modes[i%len(modes)] })
		run(t, conn, "SET app.client = '"+strconv.Itoa(i)+"'")
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := write(conn, i, n); err != nil {
					errs <- fmt.Errorf("client %d, row %d: %w", i, n, err)
					return
				}
				written.Add(1)
			}
		})
	}
	for i := range moves {
		before := written.Load()
		eventually(t, "clients write", func() bool { return written.Load() > before+20 || len(errs) > 0 })
		side := []string{Target, Source}[i%2]
		report := g.moveTo(t, side)
		require.Equal(t, clients, report.Moved)
	}
	close(stop)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	var total int64
	for _, dsn := range []pg.DSN{g.source, g.target} {
		n, err := strconv.ParseInt(value(t, pgtest.Conn(t, dsn), "SELECT count(*) FROM public.acked"), 10, 64)
		require.NoError(t, err)
		require.Positive(t, n)
		total += n
	}
	require.Equal(t, written.Load(), total)
	require.Zero(t, g.Status().ClientErrors)
	require.Zero(t, g.Status().Panics)
}

// write makes one row, one way or another, and checks what the session carries.
func write(conn *pgx.Conn, client, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const insert = "INSERT INTO public.acked VALUES ($1, $2, current_database())"
	switch n % 4 {
	case 0:
		_, err := conn.Exec(ctx, insert, client, n)
		return err
	case 1:
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insert, client, n); err != nil {
			return err
		}
		return tx.Commit(ctx)
	case 2:
		var carried string
		if err := conn.QueryRow(ctx, "SELECT current_setting('app.client')").Scan(&carried); err != nil {
			return err
		}
		if carried != strconv.Itoa(client) {
			return fmt.Errorf("session lost its setting: %q", carried)
		}
		_, err := conn.Exec(ctx, insert, client, n)
		return err
	default:
		b := &pgx.Batch{}
		b.Queue("SELECT pg_sleep(0.001)")
		b.Queue(insert, client, n)
		b.Queue("SELECT $1::int", n)
		return conn.SendBatch(ctx, b).Close()
	}
}
