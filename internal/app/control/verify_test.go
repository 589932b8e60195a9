package control_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

var found = control.VerifyReport{Outcome: control.Different, Tables: 3, Sequences: 1, Ended: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	Differences: []control.VerifyDifference{{Kind: "table", Name: "public.t", Verdict: control.Different, Reason: "1 row", Keys: []string{"missing (1)"}}}}

// The progress of a comparison comes every second, and then its report. It is no operation.
func TestAComparisonIsFollowed(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	d := &daemon{stopped: make(chan struct{}, 1)}
	d.verify = func(ctx context.Context) (control.VerifyReport, error) {
		select {
		case <-end:
			d.last = &found
			return found, nil
		case <-ctx.Done():
			return control.VerifyReport{}, ctx.Err()
		}
	}
	d.set(control.Status{Verify: control.Verify{State: "running", TablesDone: 1, TablesTotal: 3}}, nil)
	_, c, _ := serve(t, d)
	_, err := c.LastVerify(bounded(t))
	require.Equal(t, &control.Error{Code: control.CodeNotFound, Message: "no comparison was completed", Remedy: "start one with crossfade verify"}, err)
	n := 0
	r, err := c.Verify(bounded(t), func(v control.Verify) {
		require.Equal(t, 1, v.TablesDone)
		st, err := c.Status(bounded(t))
		require.NoError(t, err)
		require.Nil(t, st.Operation)
		if n++; n == 2 {
			close(end)
		}
	})
	require.NoError(t, err)
	require.Equal(t, found, r)
	require.Equal(t, 1, r.ExitCode())
	require.NoError(t, c.StopVerify(bounded(t)))
	<-d.stopped
	r, err = c.LastVerify(bounded(t))
	require.NoError(t, err)
	require.Equal(t, found, r)
}

// Who waits for a comparison may leave; a refusal and a daemon that stops are told.
func TestAComparisonOutlivesItsClient(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	d := &daemon{verify: func(ctx context.Context) (control.VerifyReport, error) {
		<-ctx.Done() // which ends the wait only
		close(left)
		return control.VerifyReport{}, ctx.Err()
	}}
	_, c, stop := serve(t, d)
	ctx, leave := context.WithCancel(bounded(t))
	_, err := c.Verify(ctx, func(control.Verify) { leave() })
	require.Error(t, err)
	<-left

	d.verify = func(context.Context) (control.VerifyReport, error) {
		return control.VerifyReport{}, control.Refused("not now", "wait")
	}
	_, err = c.Verify(bounded(t), nil)
	require.Equal(t, &control.Error{Code: control.CodeRefused, Message: "not now", Remedy: "wait"}, err)

	d.verify = func(ctx context.Context) (control.VerifyReport, error) {
		<-ctx.Done()
		return control.VerifyReport{}, ctx.Err()
	}
	told := make(chan error, 1)
	begun := make(chan struct{}, 100)
	go func() {
		_, err := c.Verify(bounded(t), func(control.Verify) { begun <- struct{}{} })
		told <- err
	}()
	<-begun
	stop()
	require.ErrorContains(t, <-told, "the daemon is stopping")
}

func TestTheOutcomeOfAComparison(t *testing.T) {
	t.Parallel()
	var r control.VerifyReport
	r.Judge()
	require.Equal(t, []any{control.Equal, 0}, []any{r.Outcome, r.ExitCode()})
	r.Differences = append(r.Differences, control.VerifyDifference{Verdict: control.NotProvable})
	r.Judge()
	require.Equal(t, []any{control.NotProvable, 3}, []any{r.Outcome, r.ExitCode()})
	r.Differences = append(r.Differences, control.VerifyDifference{Verdict: control.Different})
	r.Judge()
	require.Equal(t, []any{control.Different, 1}, []any{r.Outcome, r.ExitCode()})
}
