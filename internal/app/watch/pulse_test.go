package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
)

func TestASideIsAwayWhenItDoesNotAnswerTwice(t *testing.T) {
	t.Parallel()
	p := &Pulse{}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	note := func(side machine.Side, err error) error {
		p.note(side, at, err)
		at = at.Add(time.Second)
		_, away := p.Away()
		return away
	}
	require.NoError(t, note(machine.SideTarget, io.EOF), "a server that restarts misses one")
	require.ErrorContains(t, note(machine.SideTarget, fmt.Errorf("ping: %w", context.DeadlineExceeded)), "the target has not answered since 03:04:05 UTC: ping")
	require.True(t, p.missing())
	require.NoError(t, note(machine.SideTarget, nil))
	require.False(t, p.missing())
	for _, said := range []error{&pgconn.PgError{Code: "53300"}, &pgconn.PgError{Code: "28P01"}, errors.New("unknown")} {
		require.NoError(t, note(machine.SideTarget, said))
		require.NoError(t, note(machine.SideTarget, said), "who refuses is there: %v", said)
	}
	require.NoError(t, note(machine.SideSource, io.EOF))
	require.NoError(t, note(machine.SideTarget, io.EOF), "the other side's miss is not this one's")
}
