package preflighttest

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
)

// Seen is a finding without its text: its severity, its code and its object.
type Seen [3]any

// Short reduces findings to severity, code and object.
func Short(found []answer.Finding) []Seen {
	out := []Seen{}
	for _, f := range found {
		out = append(out, Seen{f.Severity, f.Code, f.Object})
	}
	return out
}

// A statement in a remedy, and that it is said where it is typed.
var (
	aStatement = regexp.MustCompile(`\b(ALTER|CREATE|DROP|GRANT|REVOKE|REINDEX|REFRESH|TRUNCATE|COMMIT PREPARED|SELECT) `)
	aPlace     = regexp.MustCompile(`\b(source|target|subscriber)\b`)
)

// Sound fails unless a finding says what is wrong, what to do and where a statement is typed.
func Sound(t *testing.T, f answer.Finding) {
	t.Helper()
	require.NotEmpty(t, f.Detail)
	if f.Severity != answer.Info {
		require.NotEmpty(t, f.Remedy, "%s: what to do", f.Code)
	}
	if aStatement.MatchString(f.Remedy) {
		require.Regexp(t, aPlace, f.Do(), "%s: where it is typed", f.Code)
	}
}
