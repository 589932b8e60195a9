package control_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

var errEnough = errors.New("enough")

func TestWatchTellsChangesAndTheTime(t *testing.T) {
	t.Parallel()
	d := &daemon{status: control.Status{Phase: "copying"}}
	_, c, _ := serve(t, d)
	var phases []string
	var last time.Time
	err := c.Watch(bounded(t), func(st control.Status) error {
		now := time.Now()
		phases = append(phases, st.Phase)
		switch len(phases) {
		case 1:
			d.set(control.Status{Phase: "following"}, nil)
		case 2: // told because it changed; from here on nothing changes
			last = now
		case 3:
			require.GreaterOrEqual(t, now.Sub(last), 900*time.Millisecond)
			return errEnough
		}
		return nil
	})
	require.ErrorIs(t, err, errEnough)
	require.Equal(t, []string{"copying", "following", "following"}, phases)
}

func TestWatchEnds(t *testing.T) {
	t.Parallel()
	_, c, stop := serve(t, &daemon{})
	ctx, cancel := context.WithCancel(bounded(t))
	require.NoError(t, c.Watch(ctx, func(control.Status) error { cancel(); return nil }))

	err := c.Watch(bounded(t), func(control.Status) error { go stop(); return nil })
	require.Equal(t, exit.CodeNotComplete, control.ExitCode(err), "%v", err)
}
