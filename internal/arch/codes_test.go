package arch

import (
	_ "embed"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

//go:embed codes.txt
var shown string

// Whoever tells an operator something new says which test sees that it is true.
func TestEveryCodeIsShownByATest(t *testing.T) {
	t.Parallel()
	const root = "../.."
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
		"internal/daemon/x.go": &fstest.MapFile{Data: []byte("package daemon\n\nvar b = Blocker{Code: \"one_thing\"}\n\nfunc f() {\n\ttell := func(warns bool, code string) {}\n\ttell(true, \"another_thing\")\n" +
			"\tg(Blocker{Code: \"no_create_on_\" + side})\n\th(\"not_a_code\")\n}\n")},
		"internal/daemon/x_test.go": &fstest.MapFile{Data: []byte("package daemon\n\nfunc TestOne() { see(\"one_thing\") }\n")},
	}
	tree, err := Load(fsys, "crossfade")
	require.NoError(t, err)
	codes := tree.Codes()
	for _, c := range []string{"one_thing", "another_thing", "no_create_on_"} {
		require.Contains(t, codes, c)
	}
	require.NotContains(t, codes, "not_a_code")
	list, err := ParseShown("# comment\none_thing internal/daemon.TestOne - -\ngone internal/daemon.TestOne - -\nno_create_on_ internal/daemon.TestNone - -\n")
	require.NoError(t, err)
	var said []string
	for _, v := range tree.Unshown(list) {
		said = append(said, v.Detail)
	}
	require.Contains(t, said, "another_thing is told, and the list of codes names no test that sees that it is true")
	require.Contains(t, said, "gone is told by nobody")
	require.Contains(t, said, "no_create_on_: there is no test internal/daemon.TestNone in a file that names the code")
	require.NotContains(t, said, "one_thing is told by nobody")
	_, err = ParseShown("a b c")
	require.Error(t, err)
	_, err = ParseShown("a b c d\na b c d")
	require.Error(t, err)
}
