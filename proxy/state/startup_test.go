package state

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"crossfade/proxy/wire"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

func TestStartupMovesIntoOptions(t *testing.T) {
	t.Parallel()
	s := NewStartup([]wire.Param{
		{Name: "user", Value: "u"}, {Name: "database", Value: "d"}, {Name: "_pq_.x", Value: "1"},
		{Name: "application_name", Value: "my app"},
		{Name: "options", Value: `-c search_path=a,\ b --work-mem=5MB -cTimeZone=UTC -e endpoint=ep-1 neon_lsn:0/1 -c role=me`},
		{Name: "timezone", Value: "Europe/Berlin"},
		{Name: "app.start", Value: `back\slash`},
	})
	require.Equal(t, []wire.Param{
		{Name: "options", Value: `-c lock_timeout=1 -c search_path=a,\ b -c work_mem=5MB -c timezone=Europe/Berlin -c datestyle=euro -c role=ME -c app.start=back\\slash`},
		{Name: "application_name", Value: "my app"},
	}[1:], s.Moved([]wire.Param{{Name: "lock_timeout", Value: "1"}}, nil, func(string) string { return "ME" })[:1])
	require.Equal(t, `-c lock_timeout=1 -c search_path=a,\ b -c work_mem=5MB -c timezone=Europe/Berlin -c datestyle=euro -c role=ME -c app.start=back\\slash`,
		s.Moved([]wire.Param{{Name: "lock_timeout", Value: "1"}}, nil, func(string) string { return "ME" })[1].Value)
	var n Names
	s.Names(&n)
	require.Equal(t, []string{"app.start"}, n.List())
	require.False(t, s.Replication())
	require.True(t, NewStartup([]wire.Param{{Name: "replication", Value: "database"}}).Replication())

	state := &State{Settings: map[string]Setting{
		"TimeZone":      {Value: "UTC", Reset: "Europe/Paris", Source: "session", Context: "user"},
		"work_mem":      {Value: "9", Reset: "4096", Source: "session", Context: "user"},
		"log_statement": {Value: "all", Reset: "none", Source: "client", Context: "superuser"},
		"geqo":          {Value: "on", Reset: "on", Source: "default", Context: "user"},
	}}
	moved := NewStartup(nil).Moved(nil, state, nil)
	require.Equal(t, []wire.Param{{Name: "options", Value: "-c TimeZone=Europe/Paris -c work_mem=4096"}}, moved)
}

func TestOptionsAreUnchangedByARoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var in []wire.Param
		seen := map[string]bool{}
		for range rapid.IntRange(1, 5).Draw(t, "n") {
			name := rapid.StringMatching(`[a-z]{1,5}\.[a-z_]{1,5}`).Draw(t, "name")
			if !seen[name] {
				seen[name] = true
				in = append(in, wire.Param{Name: name, Value: rapid.String().Draw(t, "value")})
			}
		}
		moved := NewStartup(in).Moved(nil, nil, nil)
		require.Equal(t, in, parseOptions(moved[0].Value))
	})
}

func FuzzOptions(f *testing.F) {
	f.Add(`-c a=b --x-y=1 \`)
	f.Fuzz(func(_ *testing.T, s string) {
		NewStartup([]wire.Param{{Name: "options", Value: s}}).Moved(nil, nil, nil)
	})
}

func TestOptionsAreReadAsAServerReadsThem(t *testing.T) {
	t.Parallel()
	for options, want := range map[string]string{
		`-S 8MB`:                              "work_mem=8MB",
		`-S8MB`:                               "work_mem=8MB",
		`-f s -fm -f hx`:                      "enable_seqscan=false enable_mergejoin=false enable_hashjoin=false",
		`-e`:                                  "datestyle=euro",
		`-eS 8MB -c a.b=1`:                    "datestyle=euro work_mem=8MB a.b=1",
		`-Pec geqo=off`:                       "ignore_system_indexes=true datestyle=euro geqo=off",
		`--work-mem=1MB`:                      "work_mem=1MB",
		`-- -c geqo=off`:                      "",
		`- work-mem=1MB`:                      "",
		`-c a.b=x\\y\ z`:                      `a.b=x\y z`,
		`-c a.b=\`:                            "a.b=",
		"-c\va.b=1\t-c\na.c=2":                "a.b=1 a.c=2",
		`-c a.b==x -c a-b.c-d=1`:              "a.b==x a_b.c_d=1",
		`-d 1 -s -t pl -v 3 -r x -N 5 -c x=1`: "x=1",
		`-c`:                                  "",
		`-c novalue -c y=2`:                   "y=2",
	} {
		var got []string
		for _, p := range parseOptions(options) {
			got = append(got, p.Name+"="+p.Value)
		}
		require.Equal(t, want, strings.Join(got, " "), options)
	}
}
