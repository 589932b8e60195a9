package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// measure is the environment variable that has TestAComparisonUnderFullLoad judge speeds, for which it
// needs the machine to itself. Its value is how many windows it compares.
const measure = "CROSSFADE_MEASURE_VERIFY"

// window is how many seconds a comparison runs, and then does not, when speeds are judged.
const window = 8

// pgbench runs pgbench at the source and returns the transactions of each of its seconds.
func (s *sides) pgbench(t *testing.T, args ...string) (tps []float64) {
	t.Helper()
	b, err := pgcluster.Find()
	require.NoError(t, err)
	args = append([]string{"-h", s.source.Host(), "-p", strconv.Itoa(int(s.source.Port())), "-U", s.source.User()}, append(args, s.source.Database())...)
	cmd := exec.CommandContext(t.Context(), b.Path("pgbench"), args...)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+s.source.Password())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	for _, m := range regexp.MustCompile(`(?m)^progress: [0-9.]+ s, ([0-9.]+) tps`).FindAllSubmatch(out, -1) {
		one, err := strconv.ParseFloat(string(m[1]), 64)
		require.NoError(t, err)
		tps = append(tps, one)
	}
	return tps
}

// While pgbench runs at full speed, comparisons of its million rows find nothing. Where the machine is
// not shared, they take less than a tenth of its speed.
func TestAComparisonUnderFullLoad(t *testing.T) {
	windows, err := strconv.Atoi(os.Getenv(measure))
	judged := err == nil
	if !judged {
		t.Parallel()
		sampleOnly(t)
	}
	s := newSides(t)
	s.pgbench(t, "-i", "-q", "-s", "10")
	pgtest.Exec(t, pgtest.Conn(t, s.source), "ALTER TABLE pgbench_history REPLICA IDENTITY FULL")
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	if judged {
		alone, compared := p.windows(windows)
		said := fmt.Sprintf("tps alone %.0f, with a comparison %.0f: %.1f%% less", alone, compared, 100*(1-compared/alone))
		t.Log(said)
		require.Greater(t, compared, 0.9*alone, said)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.pgbench(t, "-n", "-c", "8", "-j", "2", "-T", "30")
	}()
	for n := 0; ; n++ {
		r, err := p.client.Verify(t.Context(), func(control.Verify) {})
		require.NoError(t, err)
		require.Equal(t, control.Equal, r.Outcome, "%+v", r.Differences)
		require.Equal(t, 4, r.Tables)
		select {
		case <-done:
			return
		default:
		}
	}
}

// windows runs pgbench, has a comparison run in every second window, and returns the average of the
// transactions per second without one and with one. The seconds in which it begins and ends are left out.
func (p *process) windows(n int) (alone, compared float64) {
	p.t.Helper()
	done := make(chan []float64, 1)
	begun := time.Now()
	go func() {
		done <- p.s.pgbench(p.t, "-n", "-c", "8", "-j", "2", "-P", "1", "-T", strconv.Itoa(2*n*window))
	}()
	for at := range 2 * n {
		if at%2 == 1 {
			ctx, cancel := context.WithDeadline(p.t.Context(), begun.Add(time.Duration(at+1)*window*time.Second))
			for ctx.Err() == nil {
				_, err := p.client.Verify(ctx, func(control.Verify) {})
				require.True(p.t, err == nil || ctx.Err() != nil, err)
			}
			cancel()
			_ = p.client.StopVerify(p.t.Context())
		}
		<-time.After(time.Until(begun.Add(time.Duration(at+1) * window * time.Second)))
	}
	var sums [2]float64
	var seconds [2]int
	for second, tps := range <-done {
		if at := second % window; at > 0 && at < window-1 {
			side := second / window % 2
			sums[side], seconds[side] = sums[side]+tps, seconds[side]+1
		}
	}
	return sums[0] / float64(seconds[0]), sums[1] / float64(seconds[1])
}
