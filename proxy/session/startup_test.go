package session

import (
	"strconv"
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
		{Name: "options", Value: `-e -c lock_timeout=1 -c search_path=a,\ b -c work_mem=5MB -c timezone=Europe/Berlin -c role=ME -c app.start=back\\slash`},
		{Name: "application_name", Value: "my app"},
	}[1:], s.Moved([]wire.Param{{Name: "lock_timeout", Value: "1"}}, nil, func(string) string { return "ME" })[:1])
	require.Equal(t, `-e -c lock_timeout=1 -c search_path=a,\ b -c work_mem=5MB -c timezone=Europe/Berlin -c role=ME -c app.start=back\\slash`,
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

func TestOptionsSurviveTheRoundTrip(t *testing.T) {
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
		got, flags := parseOptions(moved[0].Value)
		require.Empty(t, flags)
		require.Equal(t, in, got)
	})
}

func FuzzOptions(f *testing.F) {
	f.Add(`-c a=b --x-y=1 \`)
	f.Fuzz(func(_ *testing.T, s string) {
		NewStartup([]wire.Param{{Name: "options", Value: s}}).Moved(nil, nil, nil)
	})
}
