package preflight

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A finding is told once, and its statement, typed as it is printed, removes it.
func TestAStatementAsItIsPrintedRemovesItsFinding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := "SET ROLE " + f.sourceDSN.User() + "; "
	for _, x := range []situation{
		{code: "unlogged_table", source: own + "CREATE UNLOGGED TABLE public.quick (id int PRIMARY KEY); RESET ROLE"},
		{code: "replica_identity", source: own + "CREATE TABLE public.keyless (v text); RESET ROLE", left: []string{"replica_identity_full"}},
		{code: "sequence_not_readable", source: "CREATE SEQUENCE public.numbers"},
		{code: "no_replication", source: "ALTER ROLE " + f.sourceDSN.User() + " NOREPLICATION"},
		{code: "target_event_trigger", target: "CREATE FUNCTION public.look() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER looks ON ddl_command_end EXECUTE FUNCTION public.look()", also: []string{"target_not_empty"}},
		{code: "table_not_owned", source: "CREATE TABLE public.theirs (id int PRIMARY KEY)"}, // last: it gives the role much
	} {
		f.removes(t, x)
	}
}

// What only a superuser can make is told once, and is no finding any more once it was dropped.
func TestWhatOnlyASuperuserMakesIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "objects for superusers"))
	pgtest.Exec(t, f.sourceAdmin, "CREATE TYPE public.shell")
	found := f.ask(t, "objects for superusers")
	require.Equal(t, []seen{{answer.Blocker, "needs_superuser", "public.shell"}}, short(found))
	require.Equal(t, "drop it on the source", found[0].Remedy)
	pgtest.Exec(t, f.sourceAdmin, "DROP TYPE public.shell")
	require.Empty(t, f.ask(t, "objects for superusers"))
}
