package e2e_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// loadExtras gives the source what is no table of its own: large objects, and rows
// in a table of an extension. The platform's superuser marks the same table on the
// target beforehand, as an extension's script does everywhere.
func loadExtras(t *testing.T, s *sides) {
	t.Helper()
	const made = `CREATE TABLE public.places (id int PRIMARY KEY, name text);
		INSERT INTO public.places VALUES (1, 'built in');
		ALTER EXTENSION hstore ADD TABLE public.places;
		UPDATE pg_extension SET extconfig = ARRAY['public.places'::regclass::oid], extcondition = ARRAY['WHERE id > 100'] WHERE extname = 'hstore'`
	from, to := adminOf(t, s.sourceCluster, s.source.Database()), adminOf(t, s.targetCluster, s.target.Database())
	pgtest.Exec(t, from, "CREATE EXTENSION hstore")
	pgtest.Exec(t, from, made)
	pgtest.Exec(t, from, "GRANT SELECT ON public.places TO "+s.source.User())
	pgtest.Exec(t, from, "INSERT INTO public.places VALUES (101, 'of the user')")
	pgtest.Exec(t, to, "CREATE EXTENSION hstore")
	pgtest.Exec(t, to, made)
	pgtest.Exec(t, to, "GRANT ALL ON public.places TO "+s.target.User())
	pgtest.Exec(t, from, "GRANT SELECT ON pg_catalog.pg_largeobject TO "+s.source.User()) // the statistics tell of what was removed again too
	app := pgtest.Conn(t, s.source)
	pgtest.Exec(t, app, `SELECT lo_from_bytea(700000 + n, decode(repeat('c0de', n), 'hex')) FROM generate_series(1, 70) n`)
	pgtest.Exec(t, app, `SELECT lo_from_bytea(800000, decode(repeat('ff', 3000000), 'hex')); COMMENT ON LARGE OBJECT 800000 IS 'a picture'`)
}

// requireExtras compares what loadExtras made, as far as it is the user's.
func requireExtras(t *testing.T, s *sides) {
	t.Helper()
	const objects = `SELECT string_agg(format('%s %s %s', oid, md5(lo_get(oid)), obj_description(oid, 'pg_largeobject')), ',' ORDER BY oid) FROM pg_largeobject_metadata`
	const rows = `SELECT string_agg(id || name, ',' ORDER BY id) FROM public.places`
	source, target := pgtest.Conn(t, s.source), pgtest.Conn(t, s.target)
	require.Contains(t, pgtest.Value(t, source, objects), "a picture")
	require.Equal(t, pgtest.Value(t, source, objects), pgtest.Value(t, target, objects))
	require.Equal(t, "1built in,101of the user", pgtest.Value(t, target, rows))
}

// A copy that is killed after its extras begins again, and has them once.
func TestCopyTakesLargeObjectsAndRowsOfExtensionsAlong(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	loadExtras(t, s)
	out, code := s.say(t, nil, "copy", "--log-level=error")
	require.Equal(t, 1, code, out)
	refusedFor(t, out, "71 large objects", "--large-objects")
	copyKilled(t, s, "phase.copied=kill", "--large-objects")
	out, code = s.say(t, nil, "clean")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "71 large objects")
	copyKilled(t, s, "copy.extras=kill", "--large-objects")
	pgtest.Exec(t, pgtest.Conn(t, s.source), `SELECT lo_put(700007, 0, 'changed'), lo_unlink(700008), lo_from_bytea(700071, 'new')`)
	out, code = s.say(t, nil, "copy", "--large-objects")
	require.Equal(t, 0, code, out)
	requireExtras(t, s)
	s.requireNothingLeft(t)
}

// A run takes them along as well, where the operator accepts that they are not
// followed.
func TestRunTakesLargeObjectsAlong(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	loadExtras(t, s)
	out, code := s.say(t, nil, "check", "--large-objects")
	require.Equal(t, 0, code, out)
	require.Contains(t, out, "no stream carries")
	p := newProcess(t, s, "--large-objects")
	p.start()
	p.awaitFollowing()
	require.Equal(t, "switched", string(p.cutover().Outcome))
	requireExtras(t, s)
	require.Equal(t, 0, p.stop())
}

// Large objects are in no stream: what an application writes while the run follows is noticed within seconds and
// keeps a cutover from losing it, and rows that it keeps in tables of extensions arrive before the switch.
func TestWhatNoStreamCarriesIsNotLostSilently(t *testing.T) {
	t.Parallel()
	s := newSides(t)
	loadShop(t, s)
	loadExtras(t, s)
	p := newProcess(t, s, "--large-objects")
	p.start()
	p.awaitFollowing()
	app := pgtest.Conn(t, p.proxied())
	pgtest.Exec(t, app, `SELECT lo_from_bytea(900001, 'written while following')`)
	p.awaitBlockers("large_objects_changed", "900001", "crossfade clean") // what finds its bytes alone may be first
	p.refuses("large objects", "900001")
	require.Equal(t, "written while following", pgtest.Value(t, app, `SELECT convert_from(lo_get(900001), 'UTF8')`), "the session goes on at the source")

	pgtest.Exec(t, app, `SELECT lo_unlink(900001)`)
	require.NoError(t, app.Close(t.Context())) // a session of ours has settings that cannot be seen
	p.await("nothing would be lost", func(st control.Status) bool { return st.Ready })

	pgtest.Exec(t, pgtest.Conn(t, s.source), `SELECT lo_from_bytea(900002, 'kept')`)
	b := p.awaitBlocker("large_objects_changed")
	require.Equal(t, 0, p.stop())
	p.startsOver(b.Remedy)
	require.Equal(t, "kept", pgtest.Value(t, pgtest.Conn(t, s.target), `SELECT convert_from(lo_get(900002), 'UTF8')`))
	require.Equal(t, "switched", string(p.cutover().Outcome))
	requireExtras(t, s)
	require.Equal(t, 0, p.stop())
}
