package control_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

func TestLimitsAreSetAndRead(t *testing.T) {
	t.Parallel()
	d := &daemon{limits: control.Limits{MaxRateBytes: 5, WALBudgetBytes: 7}}
	_, c, _ := serve(t, d)
	l, err := c.Limits(bounded(t))
	require.NoError(t, err)
	require.Equal(t, control.Limits{MaxRateBytes: 5, WALBudgetBytes: 7}, l)
	zero, auto, bad := int64(0), int64(-1), int64(-2)
	l, err = c.SetLimits(bounded(t), control.LimitsChange{MaxRateBytes: &zero})
	require.NoError(t, err)
	require.Equal(t, control.Limits{WALBudgetBytes: 7}, l, "0 is a value, what is not named stays")
	_, err = c.SetLimits(bounded(t), control.LimitsChange{WALBudgetBytes: &auto})
	require.NoError(t, err)
	for _, change := range []control.LimitsChange{{MaxRateBytes: &auto}, {WALBudgetBytes: &bad}} {
		_, err = c.SetLimits(bounded(t), change)
		require.Equal(t, exit.CodeUsage, control.ExitCode(err), "%v", err)
	}
}

func TestLimitsAreNotSetOverTCP(t *testing.T) {
	t.Parallel()
	d := &daemon{}
	s, _, _ := serve(t, d, func(cfg *control.Config) { cfg.HTTP = "127.0.0.1:0" })
	res, err := http.Post("http://"+s.HTTPAddr().String()+"/v1/limits", "application/json", strings.NewReader(`{"max_rate_bytes":1}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Zero(t, d.limits)
	http.DefaultClient.CloseIdleConnections()
}
