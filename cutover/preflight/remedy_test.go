package preflight

import (
	"testing"
)

// A finding is told once, and its statement, typed as it is printed, removes it.
func TestAStatementAsItIsPrintedRemovesItsFinding(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := "SET ROLE " + f.SourceDSN.User() + "; "
	for _, x := range []situation{
		{code: "unlogged_table", source: own + "CREATE UNLOGGED TABLE public.quick (id int PRIMARY KEY); RESET ROLE"},
		{code: "replica_identity", source: own + "CREATE TABLE public.keyless (v text); RESET ROLE", left: []string{"replica_identity_full"}},
		{code: "sequence_not_readable", source: "CREATE SEQUENCE public.numbers"},
		{code: "no_replication", source: "ALTER ROLE " + f.SourceDSN.User() + " NOREPLICATION"},
		{code: "target_event_trigger", target: "CREATE FUNCTION public.look() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER looks ON ddl_command_end EXECUTE FUNCTION public.look()", also: []string{"target_not_empty"}},
		{code: "table_not_owned", source: "CREATE TABLE public.theirs (id int PRIMARY KEY)"},
	} {
		f.removes(t, x)
	}
}
