package server

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
)

func TestPoolerHosts(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, Hosts))
	found := f.Ask(t, Hosts, func(o *inquiry.Options) {
		o.SourceHost = "db.example.com"
		o.TargetHost = "ep-cool-night-123456-pooler.eu-central-1.aws.neon.tech"
	})
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "pooler_host", "ep-cool-night-123456-pooler.eu-central-1.aws.neon.tech"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Remedy, " ep-cool-night-123456.eu-central-1.aws.neon.tech")

	for _, host := range []string{"", "localhost", "my-pooler", "/run/postgresql", "a.b-pooler.example.com", "pooler.example.com"} {
		_, pooled := directHost(host)
		require.False(t, pooled, host)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, Versions))

	found := f.Ask(t, Versions, func(o *inquiry.Options) {
		o.PgDumpMajor = func(context.Context) (int, error) { return 0, errors.New("executable file not found in $PATH") }
	})
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "pg_dump_missing", "pg_dump"}}, preflighttest.Short(found))

	tests := []struct {
		source, target, dump int
		want                 []preflighttest.Seen
	}{
		{15, 17, 17, []preflighttest.Seen{}},
		{15, 15, 16, []preflighttest.Seen{{answer.Info, "pg_dump_newer", "pg_dump"}}},
		{17, 15, 17, []preflighttest.Seen{{answer.Blocker, "target_older", "target"}, {answer.Info, "pg_dump_newer", "pg_dump"}}},
		{16, 17, 15, []preflighttest.Seen{{answer.Blocker, "pg_dump_older", "pg_dump"}}},
		{11, 17, 17, []preflighttest.Seen{{answer.Blocker, "source_too_old", "source"}}},
		{12, 17, 17, []preflighttest.Seen{}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, preflighttest.Short(versionFindings(tt.source, tt.target, tt.dump)), "%+v", tt)
	}
}

// What is printed of versions, done, leaves nothing to tell.
func TestVersionsThatDoNotFitGoWithTheirRemedies(t *testing.T) {
	t.Parallel()
	number := func(remedy string) int {
		m := regexp.MustCompile(`version (\d+)`).FindStringSubmatch(remedy)
		require.NotNil(t, m, remedy)
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		return n
	}
	older := versionFindings(17, 15, 15)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "target_older", "target"}, {answer.Blocker, "pg_dump_older", "pg_dump"}}, preflighttest.Short(older))
	require.Empty(t, versionFindings(17, number(older[0].Remedy), number(older[1].Remedy)))
	old := versionFindings(11, 17, 17)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "source_too_old", "source"}}, preflighttest.Short(old))
	require.Empty(t, versionFindings(number(old[0].Remedy), 17, 17))
}
