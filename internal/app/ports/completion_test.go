package ports_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/apptest"
	"crossfade/internal/app/ports"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/plan"
)

// Applications are held for a statement where none of the transactions that hold its tables is old,
// and where there is a proxy that holds them.
func TestApplicationsAreHeldForAStatementWhoseWritersAreShort(t *testing.T) {
	t.Parallel()
	b := apptest.NewPortsFixture(t)
	s := plan.Statement{Locks: []pg.Name{{Schema: "public", Name: "a"}}}
	locked := 0
	lock := func(context.Context) error {
		locked++
		return nil
	}
	held, err := b.TargetPort.InQuiet(t.Context(), s, lock)
	require.NoError(t, err)
	require.False(t, held, "nobody can be held")
	require.Equal(t, 1, locked)

	var asked apptest.QuietCalls
	b.TargetPort.Quiet = asked.Quiet
	writer := pgtest.Conn(t, b.TargetDSN, pg.WithKey("k"))
	pgtest.Exec(t, writer, "BEGIN")
	pgtest.Exec(t, writer, "INSERT INTO public.a VALUES (1, 'x')")
	held, err = b.TargetPort.InQuiet(t.Context(), s, lock)
	require.NoError(t, err)
	require.True(t, held)
	require.Equal(t, 2, locked)
	require.EqualValues(t, 1, asked.N.Load())
	require.Equal(t, ports.QuietLimit, asked.Limit)
}

// What a statement without tables of its own waits for is told too, and in the log not at each try.
func TestAStatementThatWaitsIsToldNowAndThen(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	c := &ports.Completion{Log: zerolog.New(&said)}
	for range ports.ToldWaits + 1 {
		c.Wait(plan.Statement{SQL: "ALTER TABLE public.a\n VALIDATE CONSTRAINT c;"}, nil)
	}
	require.Equal(t, "a statement waits for a lock: ALTER TABLE public.a VALIDATE CONSTRAINT c", c.Waiting())
	require.Equal(t, 2, strings.Count(said.String(), "waits for locks"))
	c.Set(nil)
	require.Empty(t, c.Waiting())
}
