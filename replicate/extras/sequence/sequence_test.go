package sequence_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/extras/sequence"
)

const ddl = `
	CREATE SEQUENCE public.fresh START 7;
	CREATE SEQUENCE public.used;
	CREATE SEQUENCE public.set_uncalled;
	CREATE SEQUENCE public.down INCREMENT -5 MAXVALUE 100 MINVALUE -1000 START 100;
	CREATE SEQUENCE public.top AS smallint;
	CREATE SEQUENCE public.big MINVALUE -9223372036854775808 MAXVALUE 9223372036854775807 START 1;
	CREATE SEQUENCE public.cached CACHE 10;
	CREATE SCHEMA "S ""q"; CREATE SEQUENCE "S ""q"."ü.seq";
	CREATE TABLE public.t (id int GENERATED ALWAYS AS IDENTITY, s serial);
	CREATE SCHEMA crossfade; CREATE SEQUENCE crossfade.ours;
	CREATE TEMP SEQUENCE mine;`

func sides(t *testing.T, ddl string) (from, to *pgx.Conn) {
	from = pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	to = pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Target)))
	pgtest.Exec(t, from, ddl)
	pgtest.Exec(t, to, ddl)
	return from, to
}

func read(t *testing.T, conn *pgx.Conn) map[string]sequence.State {
	states, err := sequence.Read(t.Context(), conn)
	require.NoError(t, err)
	byName := map[string]sequence.State{}
	for _, s := range states {
		byName[s.Name.Display()] = s
	}
	require.Len(t, byName, len(states))
	return byName
}

func TestEverySequenceGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	from, to := sides(t, ddl)
	pgtest.Exec(t, from, `SELECT nextval('public.used') FROM generate_series(1, 41); SELECT setval('public.set_uncalled', 42, false);
		SELECT nextval('public.down') FROM generate_series(1, 3); SELECT setval('public.top', 32767); SELECT setval('public.big', 9223372036854775806);
		SELECT nextval('public.cached'); SELECT nextval('"S ""q"."ü.seq"'); INSERT INTO public.t DEFAULT VALUES`)
	states := read(t, from)
	require.Len(t, states, 10)
	require.NotContains(t, states, "crossfade.ours")
	require.Equal(t, sequence.State{Name: pg.Name{Schema: "public", Name: "fresh"}, Last: 7}, states["public.fresh"])
	require.Equal(t, sequence.State{Name: pg.Name{Schema: "public", Name: "set_uncalled"}, Last: 42}, states["public.set_uncalled"])
	require.Equal(t, sequence.State{Name: pg.Name{Schema: "public", Name: "cached"}, Last: 10, Called: true}, states["public.cached"])

	all, err := sequence.Read(t.Context(), from)
	require.NoError(t, err)
	tx, err := to.Begin(t.Context())
	require.NoError(t, err)
	moved, err := sequence.Set(t.Context(), tx, all)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, len(all), moved)
	require.Equal(t, states, read(t, to))

	next := map[string]string{"fresh": "7", "used": "42", "set_uncalled": "42", "down": "85", "big": "9223372036854775807", "cached": "11", "t_id_seq": "2"}
	for name, want := range next {
		require.Equal(t, want, pgtest.Value(t, to, "SELECT nextval('public."+name+"')"), name)
	}
	_, err = to.Exec(t.Context(), "SELECT nextval('public.top')")
	require.ErrorContains(t, err, "reached maximum value")
}

func TestSetTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	from, to := sides(t, ddl)
	pgtest.Exec(t, from, "SELECT nextval('public.used'); SELECT nextval('public.down'); SELECT setval('public.set_uncalled', 42, false)")
	all, err := sequence.Read(t.Context(), from)
	require.NoError(t, err)
	for range 2 {
		_, err = sequence.Set(t.Context(), to, all)
		require.NoError(t, err)
		require.Equal(t, read(t, from), read(t, to))
	}
}

func TestNoUsedSequenceGoesBackwards(t *testing.T) {
	t.Parallel()
	_, to := sides(t, ddl)
	pgtest.Exec(t, to, "SELECT setval('public.used', 100); SELECT setval('public.down', -500); SELECT setval('public.fresh', 7); SELECT setval('public.big', 9223372036854775807)")
	state := func(name string, last int64, called bool) sequence.State {
		return sequence.State{Name: pg.Name{Schema: "public", Name: name}, Last: last, Called: called}
	}
	moved, err := sequence.Set(t.Context(), to, []sequence.State{
		state("used", 99, true), state("down", -495, true), state("fresh", 7, false), state("big", -5, true),
	})
	require.NoError(t, err)
	require.Zero(t, moved)
	got := read(t, to)
	require.Equal(t, state("used", 100, true), got["public.used"])
	require.Equal(t, state("down", -500, true), got["public.down"])
	require.Equal(t, state("fresh", 7, true), got["public.fresh"])

	moved, err = sequence.Set(t.Context(), to, []sequence.State{
		state("used", 102, false), state("down", -505, true), state("fresh", 8, true),
	})
	require.NoError(t, err)
	require.Equal(t, 3, moved)
	require.Equal(t, "102", pgtest.Value(t, to, "SELECT nextval('public.used')"))
	require.Equal(t, "-510", pgtest.Value(t, to, "SELECT nextval('public.down')"))
	require.Equal(t, "9", pgtest.Value(t, to, "SELECT nextval('public.fresh')"))
}

func TestMissingRightIsAnErrorThatNamesTheSequence(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t, pgtest.Source)
	dsn := pgtest.Database(t, c)
	owner := pgtest.Conn(t, dsn)
	admin := pgtest.Conn(t, c.AdminDSN(dsn.Database()))
	pgtest.Exec(t, admin, `CREATE SEQUENCE public.hidden; SELECT setval('public.hidden', 50); CREATE SEQUENCE public.fresh_hidden;
		CREATE SEQUENCE public.usage_only; GRANT USAGE ON SEQUENCE public.usage_only TO PUBLIC; SELECT setval('public.usage_only', 9);
		CREATE SCHEMA closed; CREATE SEQUENCE closed.inside; GRANT SELECT ON SEQUENCE closed.inside TO PUBLIC`)
	pgtest.Exec(t, owner, "CREATE SEQUENCE public.own")
	_, err := sequence.Read(t.Context(), owner)
	var right *sequence.RightError
	require.ErrorAs(t, err, &right)
	require.ErrorContains(t, err, "closed.inside, public.fresh_hidden, public.hidden: GRANT SELECT")
	require.Len(t, right.Sequences, 3)

	pgtest.Exec(t, admin, "GRANT SELECT ON public.hidden, public.fresh_hidden TO PUBLIC; GRANT USAGE ON SCHEMA closed TO PUBLIC")
	require.Equal(t, int64(50), read(t, owner)["public.hidden"].Last)
	require.Equal(t, int64(9), read(t, owner)["public.usage_only"].Last)
}

func TestSequenceThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	_, to := sides(t, "CREATE SEQUENCE public.here")
	_, err := sequence.Set(t.Context(), to, []sequence.State{
		{Name: pg.Name{Schema: "public", Name: "here"}, Last: 5, Called: true}, {Name: pg.Name{Schema: "public", Name: "gone"}, Last: 1},
	})
	require.ErrorContains(t, err, "not there: public.gone")
	_, err = sequence.Set(t.Context(), to, nil)
	require.NoError(t, err)
}

func TestManySequences(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 450 {
		fmt.Fprintf(&b, "CREATE SEQUENCE public.s%d START %d;", i, i+1)
	}
	from, to := sides(t, b.String())
	all, err := sequence.Read(t.Context(), from)
	require.NoError(t, err)
	require.Len(t, all, 450)
	_, err = sequence.Set(t.Context(), to, all)
	require.NoError(t, err)
	require.Equal(t, read(t, from), read(t, to))
	require.Equal(t, int64(450), read(t, to)["public.s449"].Last)
}
