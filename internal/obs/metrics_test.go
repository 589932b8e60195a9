package obs_test

import (
	"bytes"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/obs"
)

func TestLifecycleTellsEachChangeOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	reg := obs.NewRegistry()
	l, err := obs.NewLifecycle(zerolog.New(&out), reg, "coordinator")
	require.NoError(t, err)
	other, err := obs.NewLifecycle(zerolog.New(io.Discard), reg, "proxy")
	require.NoError(t, err, "two components share the registry")

	l.To("arming")
	l.To("arming")
	l.To("pausing", func(e *zerolog.Event) { e.Int64(obs.KeyEpoch, 3) })
	other.To("serving")

	require.Equal(t, "pausing", l.State())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], `"state":"arming"`)
	require.NotContains(t, lines[0], `"from"`)
	require.Contains(t, lines[1], `"from":"arming"`)
	require.Contains(t, lines[1], `"epoch":3`)
	require.Contains(t, lines[1], `"component":"coordinator"`)

	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP crossfade_state 1 for the state that a component is in.
# TYPE crossfade_state gauge
crossfade_state{component="coordinator",state="pausing"} 1
crossfade_state{component="proxy",state="serving"} 1
`), "crossfade_state"))
}

func TestLifecycleRefusesAForeignMetricOfItsName(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "crossfade_state", Help: "another"}))
	_, err := obs.NewLifecycle(zerolog.Nop(), reg, "proxy")
	require.ErrorContains(t, err, "register state metric")
}

func TestMetricsHandlerServesTheRegistry(t *testing.T) {
	t.Parallel()
	reg := obs.NewRegistry()
	mine := prometheus.NewCounter(prometheus.CounterOpts{Namespace: obs.Namespace, Name: "things_total", Help: "Things."})
	reg.MustRegister(mine)
	mine.Add(5)

	rec := httptest.NewRecorder()
	obs.MetricsHandler(reg).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, rec.Code)
	require.Contains(t, rec.Body.String(), "crossfade_things_total 5")
	require.Contains(t, rec.Body.String(), "go_goroutines")
}
