package apply_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/apply"
)

// Within one transaction, so that one batch has both descriptions of the table.
func TestChangesUnderTwoReplicaIdentitiesKeepTheirOrder(t *testing.T) {
	check(t, `CREATE TABLE public.t (id int PRIMARY KEY, f float8 NOT NULL UNIQUE, v text);`,
		`INSERT INTO public.t VALUES (1, 1, 'a'), (2, 2, 'a')`,
		`BEGIN; UPDATE public.t SET v = 'b'; ALTER TABLE public.t REPLICA IDENTITY USING INDEX t_f_key;
		UPDATE public.t SET v = 'c' WHERE id = 1; ALTER TABLE public.t REPLICA IDENTITY DEFAULT; COMMIT`, "public.t")
}

// copiedAs gives the follower what the copy knew of the tables.
func (w *world) copiedAs(tables ...string) func(*apply.Config) {
	copied := map[uint32]apply.Copied{}
	for _, table := range tables {
		var oid uint32
		var c apply.Copied
		require.NoError(w.t, w.src.QueryRow(w.t.Context(), `SELECT c.oid, n.nspname, c.relname,
			ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::text::regclass`, table).
			Scan(&oid, &c.Name.Schema, &c.Name.Name, &c.Columns))
		copied[oid] = c
	}
	return func(cfg *apply.Config) { cfg.Copied = copied }
}

func TestATableThatHadTheNameOfAnotherForAMomentIsFollowed(t *testing.T) {
	t.Parallel()
	const swap = `ALTER TABLE public.a RENAME TO c; ALTER TABLE public.b RENAME TO a; ALTER TABLE public.c RENAME TO b;`
	w := newWorld(t, `CREATE TABLE public.a (id int PRIMARY KEY, v text); CREATE TABLE public.b (id int PRIMARY KEY, v text);
			CREATE TABLE public.d (id int PRIMARY KEY); CREATE SCHEMA other; CREATE TABLE other.d (id int PRIMARY KEY)`,
		`INSERT INTO public.a VALUES (1, 'a'); INSERT INTO public.b VALUES (2, 'b'); INSERT INTO public.d VALUES (3); INSERT INTO other.d VALUES (4)`)
	r := w.follow(w.copiedAs("public.a", "public.b", "public.d", "other.d"))
	w.do("UPDATE public.a SET v = 'before'")
	w.do("BEGIN; " + swap + "INSERT INTO public.a VALUES (7, 'of b'); UPDATE public.b SET v = 'of a'; " + swap + "COMMIT")
	w.do("BEGIN; ALTER SCHEMA public RENAME TO x; ALTER SCHEMA other RENAME TO public; TRUNCATE public.d; ALTER SCHEMA public RENAME TO other; ALTER SCHEMA x RENAME TO public; COMMIT")
	w.do("UPDATE public.b SET v = v || ' after'")
	w.drain(r)
	w.same("public.a", "public.b", "public.d", "other.d")
}

func TestColumnsThatChangedNamesForAMomentStopTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE public.t (id int PRIMARY KEY, a text, b text)`, ``)
	r := w.follow(w.copiedAs("public.t"))
	const swap = `ALTER TABLE public.t RENAME a TO c; ALTER TABLE public.t RENAME b TO a; ALTER TABLE public.t RENAME c TO b;`
	w.do("BEGIN; " + swap + "INSERT INTO public.t (id, a, b) VALUES (1, 'x', 'y'); " + swap + "COMMIT")
	err := r.result()
	require.ErrorAs(t, err, new(*apply.RenamedError))
	require.ErrorContains(t, err, "public.t")
	require.ErrorContains(t, err, "its columns changed their names")
}

// What is done on both sides by hand is no drift.
func TestColumnsThatCameOrWentOnBothSidesAreFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `CREATE TABLE public.t (id int PRIMARY KEY, a text, b text)`, `INSERT INTO public.t VALUES (1, 'x', 'y')`)
	copied := w.copiedAs("public.t")
	for _, sql := range []string{`ALTER TABLE public.t DROP a`, `ALTER TABLE public.t ADD n text`, `ALTER TABLE public.t RENAME b TO c`} {
		pgtest.Exec(t, w.dst, sql)
		w.do(sql)
	}
	r := w.follow(copied)
	w.do(`INSERT INTO public.t VALUES (2, 'z', 'n'); UPDATE public.t SET n = 'm'`)
	w.drain(r)
	w.same("public.t")
}
