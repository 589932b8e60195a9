package proxy

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
)

// Names, help and units of the metrics are as Prometheus wants them.
func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	known := Endpoint{Dial: backend.Config{Address: "127.0.0.1:1"}, Credentials: func(u string) (string, string, bool) { return u, "", true }}
	p, err := New(Config{Listen: "127.0.0.1:0", Auth: auth.NewUsers(), Source: known, Target: known, Metrics: reg})
	require.NoError(t, err)
	defer p.listener.Close()
	n, err := testutil.GatherAndCount(reg)
	require.NoError(t, err)
	require.Positive(t, n)
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}
