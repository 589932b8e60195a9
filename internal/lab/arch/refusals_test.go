package arch

import (
	_ "embed"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

//go:embed refusals.txt
var refusals string

// A new refusal must be listed with the test that sees that it is true, told once, and removed as
// it is printed.
func TestEveryRefusalIsShownByATest(t *testing.T) {
	t.Parallel()
	const root = "../../.."
	tree, err := Load(os.DirFS(root), module(t, root))
	require.NoError(t, err)
	require.Greater(t, len(tree.Refusals()), 100, "the refusals are found")
	list, err := ParseRefusals(refusals)
	require.NoError(t, err)
	for _, v := range tree.UnshownRefusals(list) {
		t.Error(v)
	}
}

func TestTheListOfRefusalsCanFail(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{
		"internal/app/daemon/x.go": &fstest.MapFile{Data: []byte("package daemon\n\nvar a = errors.New(\"the thing is shut: open it\")\n\nvar b = fmt.Errorf(\"--jobs %d: write a number\", n)\n\n" +
			"var c = fmt.Errorf(\"read the thing: %w\", err)\n\nvar d = refused(\"the side is away: \"+err.Error(), \"make it reachable\")\n\nvar e = &Error{Code: x, Message: \"no such thing\", Remedy: fmt.Sprintf(\"name %s\", y)}\n\n" +
			"func f() (detail, remedy string) { return \"left over\", \"remove it: \" + clean }\n")},
		"internal/app/daemon/x_test.go": &fstest.MapFile{Data: []byte("package daemon\n\nfunc TestOne() { see(\"the thing is shut\") }\n")},
		"proxy/y.go":                    &fstest.MapFile{Data: []byte("package proxy\n\nvar a = errors.New(\"the gate is shut: open it\")\n")},
	}
	tree, err := Load(fsys, "crossfade")
	require.NoError(t, err)
	var texts []string
	for _, r := range tree.Refusals() {
		texts = append(texts, r.Text)
	}
	require.ElementsMatch(t, []string{"the thing is shut: open it", "--jobs %d: write a number", "the side is away: %s | make it reachable", "no such thing | name %s", "left over | remove it: %s"}, texts)

	const one = "internal/app/daemon.TestOne"
	list, err := ParseRefusals("# comment\nthe thing is shut: open it\n\t" + one + " " + one + " = # a door\nno such thing | name %s\n\t" + one + " - -\ngone\n\t- - -\n")
	require.NoError(t, err)
	require.Equal(t, Shown{one, one, "=", "a door"}, list["the thing is shut: open it"])
	var said []string
	for _, v := range tree.UnshownRefusals(list) {
		said = append(said, v.Detail)
	}
	require.Contains(t, said, "the list of refusals names no test that sees that this is true: --jobs %d: write a number")
	require.Contains(t, said, "nobody is refused with: gone")
	require.Contains(t, said, "there is no test "+one+" in a file with words of: no such thing | name %s")
	require.NotContains(t, said, "there is no test "+one+" in a file with words of: the thing is shut: open it")
	for _, text := range []string{"a\nb\n\t- - -", "\t- - -", "a\n\t- -", "a\n\t- - =", "a\n\t- - - # why", "a\n\t- - -\na\n\t- - -"} {
		_, err = ParseRefusals(text)
		require.Error(t, err, text)
	}
}
