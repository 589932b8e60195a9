package restore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/schema/archive"
)

func TestHarmless(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, tag, code string
		want            bool
	}{
		{"SCHEMA", "public", "42P06", true},
		{"COMMENT", "EXTENSION plpgsql", "42501", true},
		{"DEFAULT ACL", "", "42704", true},
		{"EVENT TRIGGER", "e", "42501", true},
		{"ACL", "TABLE t", "42704", false},
		{"TABLE", "t", "42P07", false},
		{"EXTENSION", "x", "42501", false},
		{"FUNCTION", "f()", "42501", false},
	} {
		require.Equal(t, c.want, harmless(&archive.Entry{Kind: c.kind, Tag: c.tag}, c.code), "%s %s", c.kind, c.code)
	}
}
