package e2e_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// makeOrphanRows makes tables with rows that their foreign keys forbid, as sessions with
// session_replication_role = replica leave them; other keys, a view and comments come after.
func (s *sides) makeOrphanRows(t *testing.T) {
	t.Helper()
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE TABLE public.parent (id int PRIMARY KEY); INSERT INTO public.parent SELECT generate_series(1, 10);
		CREATE TABLE public.child (id int PRIMARY KEY, parent int, CONSTRAINT a_bad FOREIGN KEY (parent) REFERENCES public.parent);
		CREATE TABLE public.other (id int PRIMARY KEY, parent int, CONSTRAINT z_good FOREIGN KEY (parent) REFERENCES public.parent);
		CREATE TABLE public.tree (id int, parent int, PRIMARY KEY (id), CONSTRAINT m_parts FOREIGN KEY (parent) REFERENCES public.parent) PARTITION BY RANGE (id);
		CREATE TABLE public.tree1 PARTITION OF public.tree FOR VALUES FROM (1) TO (100); CREATE TABLE public.tree2 PARTITION OF public.tree FOR VALUES FROM (100) TO (200);
		INSERT INTO public.child SELECT n, n FROM generate_series(1, 5) n; INSERT INTO public.other SELECT n, n FROM generate_series(1, 5) n; INSERT INTO public.tree VALUES (1, 1), (101, 2);
		COMMENT ON CONSTRAINT z_good ON public.other IS 'holds'; CREATE MATERIALIZED VIEW public.total AS SELECT count(*) AS n FROM public.child`)
	admin := adminOf(t, s.sourceCluster, s.source.Database())
	pgtest.Exec(t, admin, `SET session_replication_role = replica; INSERT INTO public.child VALUES (6, 4711); INSERT INTO public.tree VALUES (102, 4712); REFRESH MATERIALIZED VIEW public.total`)
}

const validKeys = `SELECT string_agg(conrelid::regclass::text || ' ' || conname || ' ' || convalidated, ', ' ORDER BY conrelid::regclass::text, conname) FROM pg_constraint WHERE contype = 'f'`

// A copy does all that it can, and lists what the target has refused; the same command
// tries that again, and that alone.
func TestCopyDoesTheRestAfterARefusal(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.makeOrphanRows(t)
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 3, code, out)
	require.Contains(t, out, "refused: ")
	require.Contains(t, out, "a_bad")
	require.Contains(t, out, "(parent) = (4711)")
	require.Contains(t, out, "(parent) = (4712)")
	require.Contains(t, out, `DELETE FROM ONLY "public"."child"`)
	target := pgtest.Conn(t, s.target)
	require.Equal(t, "other z_good true", pgtest.Value(t, target, validKeys), "what comes after it is done")
	require.Equal(t, "6 6", pgtest.Value(t, target, `SELECT (SELECT n FROM public.total) || ' ' || (SELECT count(*) FROM public.child)`))
	require.Equal(t, "holds", pgtest.Value(t, target, `SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'z_good'`))
	pgtest.Exec(t, target, `INSERT INTO public.other VALUES (7, 7)`)

	pgtest.Exec(t, target, `DELETE FROM ONLY "public"."child" f WHERE (f."parent" IS NOT NULL) AND NOT EXISTS (SELECT FROM ONLY "public"."parent" p WHERE p."id" = f."parent")`)
	pgtest.Exec(t, target, `DELETE FROM public.tree WHERE parent = 4712`)
	out, code = s.say(t, nil, "copy")
	require.Equal(t, 0, code, out)
	require.Equal(t, "child a_bad true, other z_good true, tree m_parts true, tree1 m_parts true, tree2 m_parts true", pgtest.Value(t, target, validKeys))
	require.Equal(t, "6", pgtest.Value(t, target, `SELECT count(*) FROM public.other`), "nothing is copied again")
	s.requireNothingLeft(t)
}

// The rows of a table that the target does not take, an index whose expression fails, and a
// materialised view are no reason to leave the rest.
func TestCopyDoesTheRestWhereRowsIndexesAndViewsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	// What tells the sides apart is the setting that a compute of Neon has.
	pgtest.Exec(t, pgtest.Conn(t, s.source), `CREATE FUNCTION public.here(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
			IF pg_catalog.current_setting('neon.endpoint_id', true) <> '' AND n = 3 THEN RAISE EXCEPTION 'not on this side'; END IF; RETURN n; END $$;
		CREATE TABLE public.made (id int PRIMARY KEY, g int GENERATED ALWAYS AS (public.here(id)) STORED);
		CREATE TABLE public.indexed (id int PRIMARY KEY); CREATE INDEX indexed_here ON public.indexed (public.here(id)); CREATE INDEX indexed_minus ON public.indexed ((-id));
		CREATE TABLE public.plain (id int PRIMARY KEY);
		CREATE MATERIALIZED VIEW public.seen AS SELECT public.here(id) AS h FROM public.plain; CREATE MATERIALIZED VIEW public.total AS SELECT count(*) AS n FROM public.plain;
		INSERT INTO public.made SELECT generate_series(1, 5); INSERT INTO public.indexed SELECT generate_series(1, 5); INSERT INTO public.plain SELECT generate_series(1, 5);
		REFRESH MATERIALIZED VIEW public.seen; REFRESH MATERIALIZED VIEW public.total`)
	out, code := s.say(t, nil, "copy")
	require.Equal(t, 3, code, out)
	require.GreaterOrEqual(t, strings.Count(out, "not on this side"), 3, out)
	for _, named := range []string{"ROWS public.made", "INDEX public.indexed_here", "public.seen"} {
		require.Contains(t, out, "refused: "+s.source.Database()+": "+strings.TrimPrefix(named, "public.seen")) // each is told once
		require.Contains(t, out, named)
	}
	target := pgtest.Conn(t, s.target)
	require.Equal(t, "0 5 5 5 indexed_minus", pgtest.Value(t, target, `SELECT (SELECT count(*) FROM public.made) || ' ' || (SELECT count(*) FROM public.indexed) || ' ' || (SELECT count(*) FROM public.plain) || ' ' || (SELECT n FROM public.total)
		|| ' ' || (SELECT string_agg(relname, ' ') FROM pg_class WHERE relname LIKE 'indexed%' AND relkind = 'i' AND relname <> 'indexed_pkey')`))
	out, code = s.say(t, nil, "copy")
	require.Equal(t, 1, code, out)
	oneLine(t, out, "crossfade clean")
	pgtest.Exec(t, target, `DROP SCHEMA "crossfade" CASCADE`) // as it was printed
	s.requireNothingLeft(t)
}

func TestCopyExitsOnErrorWhereItIsAskedTo(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.makeOrphanRows(t)
	out, code := s.say(t, nil, "copy", "--exit-on-error")
	require.Equal(t, 3, code, out)
	require.Contains(t, out, "violates foreign key constraint")
	require.NotContains(t, out, "refused: ")
}

// A foreign key that the rows contradict keeps nothing else from being done after the
// switch; finish refuses with the key and the statement that removes the rows.
func TestARefusalAfterTheSwitchKeepsNothingElseFromBeingDone(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.makeOrphanRows(t)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	warning := p.await("it names the rows before the decision", func(st control.Status) bool {
		return warned(st, "foreign_key_orphans", "(parent) = (4711)") && warned(st, "foreign_key_orphans", "(parent) = (4712)")
	}).Warnings
	for _, w := range warning {
		require.Contains(t, w.Remedy, "on the source: DELETE FROM")
	}
	p.cutover()
	p.awaitWhole()
	st := p.await("it names what the target has refused", func(st control.Status) bool { return len(st.Blockers) == 2 })
	target := pgtest.Conn(t, s.target)
	_, err := awaitRow(target, `SELECT 1 FROM pg_constraint WHERE conname = 'z_good' AND convalidated AND obj_description(oid, 'pg_constraint') = 'holds'`)
	require.NoError(t, err)
	for i, want := range []string{"4712", "4711"} {
		found := st.Blockers[(i+1)%2]
		if !strings.Contains(found.Detail, want) {
			found = st.Blockers[i%2]
		}
		require.Equal(t, "not_whole", found.Code)
		require.Contains(t, found.Detail, "(parent) = ("+want+")")
		require.Contains(t, found.Remedy, "DELETE FROM")
	}
	_, err = p.client.Finish(t.Context(), control.FinishOptions{})
	require.ErrorContains(t, err, "could not be validated")
	for _, b := range st.Blockers { // as they are printed
		_, sql, _ := strings.Cut(b.Remedy, "those that lack them: ")
		sql, _, _ = strings.Cut(sql, "; ")
		pgtest.Exec(t, target, sql)
	}
	p.await("nothing is left", func(st control.Status) bool { return len(st.Blockers) == 0 })
	require.Equal(t, "child a_bad true, other z_good true, tree m_parts true, tree1 m_parts true, tree2 m_parts true", pgtest.Value(t, target, validKeys))
	p.finish()
	require.Equal(t, 0, p.stop())
}

// An operator who accepts what the target has refused may finish.
func TestFinishByForceLeavesWhatTheTargetRefused(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.makeOrphanRows(t)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	p.cutover()
	p.awaitWhole()
	p.await("it names what the target has refused", func(st control.Status) bool { return len(st.Blockers) == 2 })
	_, err := p.client.Finish(t.Context(), control.FinishOptions{Force: true, OpenSource: true})
	require.NoError(t, err)
	require.Equal(t, "false", pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT convalidated FROM pg_constraint WHERE conname = 'a_bad'`))
	require.Empty(t, p.awaitServing().Blockers)
	require.Equal(t, 0, p.stop())
	s.requireNothingLeft(t)
}

// The statements that the warning prints remove it: one keeps the rows, the other does not.
func TestRowsThatForeignKeysForbidAreNamedWhileFollowing(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	s.makeOrphanRows(t)
	p := newProcess(t, s)
	p.start()
	p.awaitFollowing()
	st := p.await("it names the rows", func(st control.Status) bool {
		return warned(st, "foreign_key_orphans", "(parent) = (4711)") && warned(st, "foreign_key_orphans", "(parent) = (4712)")
	})
	require.Len(t, st.Warnings, 2, "each key is told once: %v", st.Warnings)
	require.Empty(t, st.Blockers)
	source := pgtest.Conn(t, s.source)
	for _, w := range st.Warnings {
		remove, accept, keeps := strings.Cut(strings.TrimPrefix(w.Remedy, "on the source: "), "; or keep the rows, and have the key hold for new ones only: ")
		if keeps {
			pgtest.Exec(t, source, accept)
		} else {
			pgtest.Exec(t, source, remove)
		}
	}
	p.await("nothing is left", func(st control.Status) bool { return st.Ready && len(st.Warnings) == 0 })
	p.cutover()
	p.awaitWhole()
	p.finish()
	require.Equal(t, "child a_bad false, other z_good true, tree m_parts true, tree1 m_parts true, tree2 m_parts true", pgtest.Value(t, pgtest.Conn(t, s.target), validKeys))
	require.Equal(t, 0, p.stop())
}
