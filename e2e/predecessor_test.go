package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// A program that is killed while the target makes an index leaves a session at work there, which would
// commit after the next start has looked. The next start ends it first, and makes the index itself.
func TestAnIndexOfADeadProgramIsNoObstacle(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"run", "copy"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			sampleOnly(t, "run")
			s := newSides(t)
			pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE FUNCTION public.slowly(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_sleep(0.02); RETURN i; END $$;
				CREATE TABLE public.t (id int PRIMARY KEY, v int); INSERT INTO public.t SELECT g, g FROM generate_series(1, 100) g; CREATE INDEX t_slowly ON public.t (public.slowly(v))`)
			p := newProcess(t, s)
			if command == "copy" {
				p.command = []string{"copy", "--log-format=json"}
			}
			p.start()
			target := pgtest.Conn(t, s.target)
			const building = `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%CREATE INDEX%slowly%'`
			_, err := awaitRow(target, building)
			require.NoError(t, err)
			p.kill()
			p.start()
			if command == "copy" {
				require.Equal(t, 0, p.wait(), p.log)
			} else {
				p.awaitFollowing()
			}
			require.Equal(t, "true", pgtest.Value(t, target, `SELECT bool_and(indisvalid)::text FROM pg_index WHERE indexrelid = 'public.t_slowly'::regclass`))
			require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM (`+building+`) b`))
			if command == "run" {
				require.Equal(t, 0, p.stop())
			}
		})
	}
}
