package control_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
)

// printed is the part of a remedy that a pattern names.
func printed(t *testing.T, err error, pattern string) string {
	t.Helper()
	var refused *control.Error
	require.ErrorAs(t, err, &refused)
	require.NotEmpty(t, refused.Remedy)
	found := regexp.MustCompile(pattern).FindStringSubmatch(refused.Remedy)
	require.NotNil(t, found, refused.Remedy)
	return found[1]
}

// Options that contradict are refused once, and taken as the remedy writes them.
func TestOptionsOfACutoverAreTakenAsTheRemedyWritesThem(t *testing.T) {
	t.Parallel()
	ms := func(text string) int64 {
		d, err := time.ParseDuration(text)
		require.NoError(t, err)
		return d.Milliseconds()
	}
	for says, x := range map[string]struct {
		wrong   control.CutoverOptions
		pattern string
		right   func(*control.CutoverOptions, string)
	}{
		"a dry run cannot be a rehearsal":                           {control.CutoverOptions{DryRun: true, Rehearse: true}, `give (--dry-run) or --rehearse, not both`, func(o *control.CutoverOptions, _ string) { o.Rehearse = false }},
		"the drain timeout is negative":                             {control.CutoverOptions{DrainTimeoutMS: -1}, `--drain-timeout a duration such as (\S+)$`, func(o *control.CutoverOptions, v string) { o.DrainTimeoutMS = ms(v) }},
		"the longest pause is negative":                             {control.CutoverOptions{MaxPauseMS: -1}, `--max-pause a duration such as (\S+)$`, func(o *control.CutoverOptions, v string) { o.MaxPauseMS = ms(v) }},
		"the policy for sessions that cannot be moved is not known": {control.CutoverOptions{Unmovable: "kill"}, `--unmovable (\w+),`, func(o *control.CutoverOptions, v string) { o.Unmovable = v }},
		"the number of attempts is negative":                        {control.CutoverOptions{Attempts: -1}, `a number from (\d+) up`, func(o *control.CutoverOptions, v string) { o.Attempts, _ = strconv.Atoi(v) }},
	} {
		err := x.wrong.Validate()
		require.ErrorContains(t, err, says)
		require.Equal(t, 1, strings.Count(err.Error(), says))
		x.right(&x.wrong, printed(t, err, x.pattern))
		require.NoError(t, x.wrong.Validate(), says)
	}
	for says, x := range map[string]struct {
		pattern string
		change  func(*int64) control.LimitsChange
	}{
		"the rate is negative":   {`such as \S+, or (none)`, func(n *int64) control.LimitsChange { return control.LimitsChange{MaxRateBytes: n} }},
		"the budget is negative": {`such as \S+, auto, or (none)`, func(n *int64) control.LimitsChange { return control.LimitsChange{WALBudgetBytes: n} }},
	} {
		negative, none := int64(-2), int64(0)
		err := x.change(&negative).Validate()
		require.ErrorContains(t, err, says)
		require.Equal(t, "none", printed(t, err, x.pattern))
		require.NoError(t, x.change(&none).Validate())
	}
}

// A place for the socket that cannot be is refused once, and another one is taken.
func TestAPlaceForTheSocketIsTakenAsTheRemedySays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := func() string { return filepath.Join(t.TempDir(), "c") }
	precious := filepath.Join(dir, "precious")
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	taken := filepath.Join(dir, "taken")
	first, err := listen(taken)
	require.NoError(t, err)
	t.Cleanup(func() { _ = first.Close() })
	datagrams := filepath.Join(dir, "datagrams") // which refuses a connection otherwise than a socket where nobody listens
	gram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagrams, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = gram.Close() })
	for says, x := range map[string]struct {
		path   string
		remedy string
		do     func() string // returns the path to try then
	}{
		"a file that is no socket is there":     {precious, "remove it or name another place with --control", func() string { require.NoError(t, os.Remove(precious)); return precious }},
		"another daemon answers there":          {taken, "stop it or name another place with --control", func() string { require.NoError(t, first.Close()); return taken }},
		"cannot tell whether a daemon is there": {datagrams, "name another place with --control", other},
		"make its directory":                    {filepath.Join(dir, "missing", "c"), "name another place with --control", other},
		"the path is too long for a socket":     {filepath.Join(dir, strings.Repeat("x", 150)), "name a shorter one with --control", other},
		"control socket has no path":            {"", "name one with --control", other},
		"not a directory; name another place":   {filepath.Join(precious+"2", "c"), "name another place with --control", other},
	} {
		if strings.HasPrefix(says, "not a directory") {
			require.NoError(t, os.WriteFile(precious+"2", nil, 0o600))
		}
		_, err := listen(x.path)
		require.ErrorContains(t, err, says)
		require.Equal(t, 1, strings.Count(err.Error(), x.remedy), err)
		s, err := listen(x.do())
		require.NoError(t, err, says)
		require.NoError(t, s.Close())
	}
}

// Who asks where nobody answers, or for what is not there, is told once, and answered where the
// remedy is done.
func TestWhoAsksInVainIsAnsweredWhereTheRemedyIsDone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c")
	_, err := control.NewClient(path).Status(bounded(t))
	require.ErrorContains(t, err, "no daemon answers at control socket "+path)
	require.Equal(t, "crossfade run", printed(t, err, `start one with (crossfade run)`))
	d := &daemon{status: control.Status{Phase: "following"}, asked: make(chan control.CutoverOptions, 1),
		cutover: func(context.Context) (control.CutoverReport, error) { return control.CutoverReport{}, nil }}
	s, c, _ := serve(t, d, func(cfg *control.Config) { cfg.Socket, cfg.HTTP = path, "127.0.0.1:0" })
	_, err = c.Status(bounded(t))
	require.NoError(t, err)

	_, err = c.LastCutover(bounded(t))
	require.ErrorContains(t, err, "this daemon has run no cutover")
	require.Equal(t, "crossfade cutover", printed(t, err, `start one with (crossfade cutover)`))
	_, err = c.Cutover(bounded(t), control.CutoverOptions{})
	require.NoError(t, err)
	_, err = c.LastCutover(bounded(t))
	require.NoError(t, err)

	for _, method := range []string{http.MethodGet, http.MethodPost} {
		req, err := http.NewRequestWithContext(bounded(t), method, "http://"+s.HTTPAddr().String()+"/v1/sessions", nil)
		require.NoError(t, err)
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		require.NoError(t, err)
		text := make([]byte, 1<<10)
		n, _ := res.Body.Read(text)
		require.NoError(t, res.Body.Close())
		require.Contains(t, string(text[:n]), method+" /v1/sessions is not served here")
		require.Contains(t, string(text[:n]), "use the control socket")
	}
	_, err = c.Sessions(bounded(t)) // which that is
	require.NoError(t, err)
}

// What a program of another version asks or answers is told once, as a fault of the versions.
func TestWhatAnotherVersionAsksIsToldOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c")
	d := &daemon{err: errors.New("it is broken")}
	_, c, stop := serve(t, d, func(cfg *control.Config) { cfg.Socket = path })
	raw := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for _, x := range []struct{ method, at, body, says string }{
		{http.MethodGet, "/v1/nosuch", "", "this daemon knows no GET /v1/nosuch"},
		{http.MethodPost, "/v1/cutover", `{"nosuch": 1}`, "options cannot be read: "},
	} {
		req, err := http.NewRequestWithContext(bounded(t), x.method, "http://crossfade"+x.at, strings.NewReader(x.body))
		require.NoError(t, err)
		res, err := raw.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, 1, strings.Count(string(text), x.says), string(text))
		require.Contains(t, string(text), "use a crossfade program of the same version")
	}
	_, err := c.Status(bounded(t))
	require.ErrorContains(t, err, "it is broken")
	require.ErrorContains(t, err, "see the daemon's log")
	stop()

	for answer, says := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope": "is not the control protocol: ",
		"": "gave no answer: ",
	} {
		other := filepath.Join(t.TempDir(), "o")
		ln, err := net.Listen("unix", other)
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4<<10))
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}()
		_, err = control.NewClient(other).Status(bounded(t))
		require.ErrorContains(t, err, says)
		require.Equal(t, 1, strings.Count(err.Error(), says))
		require.NoError(t, ln.Close())
		<-done
	}
}
