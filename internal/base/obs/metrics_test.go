package obs_test

import (
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/obs"
)

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
