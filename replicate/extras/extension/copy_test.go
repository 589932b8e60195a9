package extension_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/extras/extension"
	"crossfade/replicate/snapshot"
)

// made gives an extension the members that an extension's script would make.
// "child" is listed before "parent", to which it refers.
const made = `
	CREATE EXTENSION hstore;
	CREATE SCHEMA "Conf";
	CREATE TABLE "Conf".parent (id int PRIMARY KEY, "Word" text, twice int GENERATED ALWAYS AS (id * 2) STORED);
	CREATE TABLE "Conf".child (id int PRIMARY KEY, parent int REFERENCES "Conf".parent);
	CREATE TABLE "Conf".all_rows (v text);
	CREATE SEQUENCE "Conf".numbers;
	INSERT INTO "Conf".parent (id, "Word") VALUES (1, 'built in');
	ALTER EXTENSION hstore ADD TABLE "Conf".parent;
	ALTER EXTENSION hstore ADD TABLE "Conf".child;
	ALTER EXTENSION hstore ADD TABLE "Conf".all_rows;
	ALTER EXTENSION hstore ADD SEQUENCE "Conf".numbers;
	UPDATE pg_extension SET
		extconfig = ARRAY['"Conf".child'::regclass, '"Conf".parent'::regclass, '"Conf".all_rows'::regclass, '"Conf".numbers'::regclass]::oid[],
		extcondition = ARRAY['', 'WHERE id > 100', '', '']
		WHERE extname = 'hstore';`

func sides(t *testing.T) (cfg extension.Config, source, target *pgx.Conn) {
	t.Helper()
	connect := func(kind pgtest.Kind) (snapshot.Connect, *pgx.Conn) {
		c := pgtest.Shared(t, kind)
		dsn := c.AdminDSN(pgtest.Database(t, c).Database()) // only a superuser marks tables outside of an extension's script
		conn := pgtest.Conn(t, dsn)
		pgtest.Exec(t, conn, made)
		return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn) }, conn
	}
	cfg.Source, source = connect(pgtest.Source)
	cfg.Target, target = connect(pgtest.Target)
	return cfg, source, target
}

func TestTheUsersRowsAndNoOthersAreCopied(t *testing.T) {
	t.Parallel()
	cfg, source, target := sides(t)
	pgtest.Exec(t, source, `
		UPDATE "Conf".parent SET "Word" = 'built in, another version' WHERE id = 1;
		INSERT INTO "Conf".parent (id, "Word") VALUES (101, E'of a\tuser'), (102, NULL);
		INSERT INTO "Conf".child VALUES (1, 101), (2, 1);
		SELECT setval('"Conf".numbers', 41)`)
	pgtest.Exec(t, target, `INSERT INTO "Conf".all_rows VALUES ('of an earlier attempt')`)
	held, err := snapshot.Export(t.Context(), cfg.Source)
	require.NoError(t, err)
	defer held.Close()
	cfg.Snapshot = held
	pgtest.Exec(t, source, `INSERT INTO "Conf".child VALUES (3, 102)`)
	for range 2 { // it may be repeated
		done, err := extension.Copy(t.Context(), cfg)
		require.NoError(t, err)
		rows := map[string]int64{}
		for _, d := range done {
			rows[d.Table.Name.Name] = d.Rows
		}
		delete(rows, "all_rows") // only the first time is there something to be removed
		require.Equal(t, map[string]int64{"parent": 2, "child": 2, "numbers": 0}, rows)
		require.Equal(t, "1 built in,101 of a\tuser,102 NULL",
			pgtest.Value(t, target, `SELECT string_agg(id || ' ' || coalesce("Word", 'NULL'), ',' ORDER BY id) FROM "Conf".parent`))
		require.Equal(t, "1 101,2 1", pgtest.Value(t, target, `SELECT string_agg(id || ' ' || parent, ',' ORDER BY id) FROM "Conf".child`))
		require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM "Conf".all_rows`))
		require.Equal(t, "41", pgtest.Value(t, target, `SELECT last_value FROM "Conf".numbers`))
	}
}

func TestATableThatTheTargetsVersionLacksIsNamed(t *testing.T) {
	t.Parallel()
	cfg, source, target := sides(t)
	pgtest.Exec(t, target, `ALTER EXTENSION hstore DROP TABLE "Conf".all_rows; DROP TABLE "Conf".all_rows`)
	_, err := extension.Copy(t.Context(), cfg)
	require.NoError(t, err, "it holds nothing of the user's")
	pgtest.Exec(t, source, `INSERT INTO "Conf".all_rows VALUES ('of a user'); INSERT INTO "Conf".parent VALUES (200)`)
	_, err = extension.Copy(t.Context(), cfg)
	require.ErrorContains(t, err, "extension hstore")
	require.ErrorContains(t, err, "Conf.all_rows")
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM "Conf".parent WHERE id = 200`), "all or nothing")
}
