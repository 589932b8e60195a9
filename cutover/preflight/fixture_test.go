package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster"
)

// fixture is a pair of databases of which the whole list of checks is asked.
type fixture struct{ *preflighttest.Fixture }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return &fixture{preflighttest.New(t)}
}

func fixtureOn(t *testing.T, source, target *pgcluster.Cluster) *fixture {
	t.Helper()
	return &fixture{preflighttest.On(t, source, target)}
}

// preflight opens the sessions as the program does.
func (f *fixture) preflight(t *testing.T, change ...func(*inquiry.Options)) *Preflight {
	t.Helper()
	source, target := f.Open(t)
	p, err := New(source, target, f.Changed(change...))
	require.NoError(t, err)
	return p
}

// ask asks one check of the list by its name.
func (f *fixture) ask(t *testing.T, name string, change ...func(*inquiry.Options)) []answer.Finding {
	t.Helper()
	p := f.preflight(t, change...)
	for _, c := range p.Checks() {
		if c.Name == name {
			found, err := c.Run(t.Context(), p.pair)
			require.NoError(t, err)
			for _, x := range found {
				preflighttest.Sound(t, x)
			}
			return found
		}
	}
	t.Fatalf("no check is called %q in this mode", name)
	return nil
}

// roleFixture is a fixture with roles of its own on both sides.
type roleFixture struct {
	*fixture
	roles *preflighttest.RoleFixture
}

func newRoleFixture(t *testing.T) *roleFixture {
	t.Helper()
	h := preflighttest.NewRoleFixture(t)
	return &roleFixture{&fixture{h.Fixture}, h}
}
