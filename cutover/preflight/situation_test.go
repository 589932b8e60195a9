package preflight

import (
	"regexp"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// situation is one cause, and what is told of it.
type situation struct {
	code           string
	source, target string                                      // what makes it true, by superusers
	arise          func(t *testing.T)                          // or that; nil for nothing more
	change         []func(*inquiry.Options)                    // what is asked for
	also           []string                                    // codes of other causes that the same brings along
	typed          func(t *testing.T, found ...answer.Finding) // types the remedy as it is printed; nil for its statements
	stays          bool                                        // nobody can type what is to be done
	option         string                                      // the pattern of an option that the remedy has; "" where it is typed
	left           []string                                    // codes of what is told once the remedy was typed
	alone          bool                                        // nothing else is asked then
}

// options are what options of a command ask for.
var options = map[string]func(*inquiry.Options){
	"--roles":         func(o *inquiry.Options) { o.Scope.MakeRoles = true },
	"--no-acl":        func(o *inquiry.Options) { o.Scope.NoACL = true },
	"--clean":         func(o *inquiry.Options) { o.Scope.Clean = true },
	"--large-objects": func(o *inquiry.Options) { o.LargeObjects = true },
}

// removes makes a situation and sees that it is told once, by one code and nothing else of
// the whole list, and that its remedy, typed as it is printed, takes it out of the list. It returns
// what was told.
func (f *fixture) removes(t *testing.T, s situation) answer.Finding {
	t.Helper()
	before := f.whole(t, s.change...)
	if s.source != "" {
		pgtest.Exec(t, f.SourceAdmin, s.source)
	}
	if s.target != "" {
		pgtest.Exec(t, f.TargetAdmin, s.target)
	}
	if s.arise != nil {
		s.arise(t)
	}
	after := f.whole(t, s.change...)
	found := beyond(after, before)
	require.ElementsMatch(t, append([]string{s.code}, s.also...), codesOf(found), "%s: once, and nothing else: %v", s.code, found)
	require.True(t, s.alone || len(beyond(before, after)) == 0, "%s takes no other finding's place", s.code)
	own := found[slices.IndexFunc(found, func(x answer.Finding) bool { return x.Code == s.code })]
	require.NotContains(t, own.Remedy, "…", "a remedy says all of what is to be typed")
	if s.stays {
		return own
	}
	change := s.change
	switch {
	case s.option != "":
		option := printed(t, own.Remedy, s.option)
		require.Contains(t, options, option)
		change = append(slices.Clone(change), options[option])
	case s.typed != nil:
		s.typed(t, own)
	default:
		f.Typed(t, own)
	}
	still := beyond(f.whole(t, change...), before)
	require.NotContains(t, codesOf(still), s.code, "%s: its remedy helps: %s", s.code, own.Remedy)
	for _, x := range still {
		require.Contains(t, append(s.left, s.also...), x.Code, "%s: its remedy brings along %v", s.code, x)
	}
	return own
}

// whole asks everything, which must be completed.
func (f *fixture) whole(t *testing.T, change ...func(*inquiry.Options)) []answer.Finding {
	t.Helper()
	p := f.preflight(t, change...)
	r := p.Run(t.Context())
	require.NoError(t, p.pair.Source.Close(t.Context())) // they count
	require.NoError(t, p.pair.Target.Close(t.Context()))
	require.Empty(t, r.Incomplete)
	for _, x := range r.Findings {
		preflighttest.Sound(t, x)
	}
	return r.Findings
}

// beyond returns the findings of a list that are not in another one.
func beyond(list, other []answer.Finding) []answer.Finding {
	left := preflighttest.Short(other)
	var out []answer.Finding
	for _, x := range list {
		if i := slices.Index(left, preflighttest.Short([]answer.Finding{x})[0]); i >= 0 {
			left = slices.Delete(left, i, i+1)
			continue
		}
		out = append(out, x)
	}
	return out
}

func codesOf(found []answer.Finding) []string {
	var codes []string
	for _, x := range found {
		codes = append(codes, x.Code)
	}
	return codes
}

// typedIn types what a pattern finds in a remedy, in a session.
func typedIn(conn *pgx.Conn, pattern string) func(t *testing.T, found ...answer.Finding) {
	return func(t *testing.T, found ...answer.Finding) {
		t.Helper()
		for _, x := range found {
			pgtest.Exec(t, conn, printed(t, x.Remedy, pattern))
		}
	}
}

// printed returns what a pattern finds in a remedy: its group where it has one.
func printed(t *testing.T, remedy, pattern string) string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(remedy)
	require.NotNil(t, m, "%q has no %s", remedy, pattern)
	return m[len(m)-1]
}
