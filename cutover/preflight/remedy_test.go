package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/pgcluster/pgtest"
)

// A finding is told once, and its statement, typed as it is printed, removes it.
func TestAStatementAsItIsPrintedRemovesItsFinding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := "SET ROLE " + f.sourceDSN.User() + "; "
	for _, x := range []struct {
		code, check    string
		source, target string // what makes it true, by superusers
	}{
		{"unlogged_table", "unlogged tables", own + "CREATE UNLOGGED TABLE public.quick (id int PRIMARY KEY); RESET ROLE", ""},
		{"replica_identity", "replica identity", own + "CREATE TABLE public.keyless (v text); RESET ROLE", ""},
		{"sequence_not_readable", "sequence privileges", "CREATE SEQUENCE public.numbers", ""},
		{"no_replication", "replication", "ALTER ROLE " + f.sourceDSN.User() + " NOREPLICATION", ""},
		{"target_event_trigger", "event triggers", "", "CREATE FUNCTION public.look() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER looks ON ddl_command_end EXECUTE FUNCTION public.look()"},
		{"table_not_owned", "source privileges", "CREATE TABLE public.theirs (id int PRIMARY KEY)", ""}, // last: it gives the role much
	} {
		of := func() (those []Finding) {
			for _, found := range f.ask(t, x.check) {
				if found.Code == x.code {
					those = append(those, found)
				}
			}
			return those
		}
		require.Empty(t, of(), "%s: not yet", x.code)
		if x.source != "" {
			pgtest.Exec(t, f.sourceAdmin, x.source)
		}
		if x.target != "" {
			pgtest.Exec(t, f.targetAdmin, x.target)
		}
		found := of()
		require.Len(t, found, 1, "%s: once", x.code)
		f.typed(t, found...)
		require.Empty(t, of(), "%s: its remedy helps", x.code)
	}
}

// What only a superuser can make is told once, and is no finding any more once it was dropped.
func TestWhatOnlyASuperuserMakesIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "objects for superusers"))
	pgtest.Exec(t, f.sourceAdmin, "CREATE TYPE public.shell")
	found := f.ask(t, "objects for superusers")
	require.Equal(t, []seen{{Blocker, "needs_superuser", "public.shell"}}, short(found))
	require.Equal(t, "drop it on the source", found[0].Remedy)
	pgtest.Exec(t, f.sourceAdmin, "DROP TYPE public.shell")
	require.Empty(t, f.ask(t, "objects for superusers"))
}
