package arch

import (
	_ "embed"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

//go:embed codes.txt
var shown string

// A new code for operators must be listed with the test that sees that it is true.
func TestEveryCodeIsShownByATest(t *testing.T) {
	t.Parallel()
	const root = "../../.."
	tree, err := Load(os.DirFS(root), module(t, root))
	require.NoError(t, err)
	require.Greater(t, len(tree.Codes()), 100, "the codes are found")
	list, err := ParseShown(shown)
	require.NoError(t, err)
	for _, v := range tree.Unshown(list) {
		t.Error(v)
	}
}

func TestTheListOfCodesCanFail(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"internal/app/daemon/x.go": &fstest.MapFile{Data: []byte("package daemon\n\nvar b = Blocker{Code: \"one_thing\"}\n\nfunc f() {\n\ttell := func(warns bool, code string) {}\n\ttell(true, \"another_thing\")\n" +
			"\tg(Blocker{Code: \"no_create_on_\" + side})\n\th(\"not_a_code\")\n\tb.Severity, b.Code = \"not_a_code\", \"third_thing\"\n}\n")},
		"internal/app/daemon/x_test.go": &fstest.MapFile{Data: []byte("package daemon\n\nfunc TestOne() { see(\"one_thing\") }\n")},
	}
	tree, err := Load(fsys, "crossfade")
	require.NoError(t, err)
	codes := tree.Codes()
	for _, c := range []string{"one_thing", "another_thing", "third_thing", "no_create_on_"} {
		require.Contains(t, codes, c)
	}
	require.NotContains(t, codes, "not_a_code")
	list, err := ParseShown("# comment\none_thing internal/app/daemon.TestOne - -\ngone internal/app/daemon.TestOne - -\nno_create_on_ internal/app/daemon.TestNone - -\n")
	require.NoError(t, err)
	var said []string
	for _, v := range tree.Unshown(list) {
		said = append(said, v.Detail)
	}
	require.Contains(t, said, "another_thing is told, and the list of codes names no test that sees that it is true")
	require.Contains(t, said, "gone is told by nobody")
	require.Contains(t, said, "no_create_on_: there is no test internal/app/daemon.TestNone in a file that names the code")
	require.NotContains(t, said, "one_thing is told by nobody")
	_, err = ParseShown("a b c")
	require.Error(t, err)
	_, err = ParseShown("a b c d\na b c d")
	require.Error(t, err)
	for _, line := range []string{"a b c =", "a b c = #", "a b c = # ", "a b c - # nobody can type it", "a b c d # why"} {
		_, err = ParseShown(line)
		require.Error(t, err, "a remedy that nobody types says why, and no other does: %s", line)
	}
	list, err = ParseShown("one_thing internal/app/daemon.TestOne internal/app/daemon.TestOne = # a bigger disk\nanother_thing = = -\n")
	require.NoError(t, err)
	require.Equal(t, "a bigger disk", list["one_thing"].Why)
	said = nil
	for _, v := range tree.Unshown(list) {
		said = append(said, v.Detail)
	}
	require.NotContains(t, strings.Join(said, "\n"), "one_thing: ", "a remedy that nobody types needs no test")
	require.Contains(t, said, "another_thing: there is no test = in a file that names the code", "but that it is true and told once does")
}

// The bounds hold for each column, and a remedy that nobody can type counts as none that is missing.
func TestTheBoundsOfTheListOfCodesCanFail(t *testing.T) {
	t.Parallel()
	list := map[string]Shown{"a": {"-", "x.T", "x.T", ""}, "b": {"x.T", "-", "=", "why"}, "c": {"x.T", "-", "-", ""}}
	reason, once, remedy := func(s Shown) string { return s.Reason }, func(s Shown) string { return s.Once }, func(s Shown) string { return s.Remedy }
	require.Empty(t, bare(list, 1, "sees", reason))
	require.Empty(t, bare(list, 2, "sees", once))
	require.Empty(t, bare(list, 1, "types", remedy))
	require.Equal(t, "1 codes are without a test that sees, at most 0 may: a", bare(list, 0, "sees", reason)[0].Detail)
	require.Equal(t, "2 codes are without a test that sees, at most 1 may: b, c", bare(list, 1, "sees", once)[0].Detail)
	require.Equal(t, "1 codes are without a test that types, at most 0 may: c", bare(list, 0, "types", remedy)[0].Detail)
}
