package e2e_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster"
)

// What docs/operate/metrics.md lists is what a run serves, and the figures are those of the run.
func TestARunServesItsMetrics(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	port, err := pgcluster.FreePort()
	require.NoError(t, err)
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	p := newProcess(t, s, "--http="+at)
	p.start()
	p.awaitFollowing()
	startShop(t, p, 2)
	p.await("two sessions", func(st control.Status) bool { return st.Proxy.Sessions >= 2 })

	resp, err := http.Get("http://" + at + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	served := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (crossfade_\w+) `).FindAllSubmatch(body, -1) {
		served[string(m[1])] = true
	}
	require.NotEmpty(t, served)
	require.Regexp(t, `(?m)^crossfade_proxy_sessions [1-9]`, string(body))

	doc, err := os.ReadFile("../docs/operate/metrics.md")
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(crossfade_\\w+)` \\|").FindAllSubmatch(doc, -1) {
		listed[string(m[1])] = true
	}
	require.Equal(t, listed, served)
}
