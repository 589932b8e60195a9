package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestBinarySafety(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	pgtest.Exec(t, conn, `CREATE EXTENSION hstore; CREATE EXTENSION cube;
		CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN dom AS mood[]; CREATE TYPE deep AS (a integer, b dom, c regclass[]);
		CREATE TYPE good AS (a integer, b dom, c jsonb); CREATE TYPE r AS RANGE (subtype = cube); CREATE TYPE i AS RANGE (subtype = numeric);
		CREATE TABLE safe (a bigint, b text[], c mood, d dom, e good[], f i, g hstore, h bytea, i money, j interval, k name, l point, m xid, n i[]);
		CREATE TABLE part (a integer, b regclass, c tsvector, d xml, e deep, f cube, g r, h cube[], i integer GENERATED ALWAYS AS (a + 1) STORED)`)
	db, err := Read(t.Context(), conn)
	require.NoError(t, err)
	require.Len(t, db.Relations, 2)
	require.Equal(t, []string{"b", "c", "d", "e", "f", "g", "h"}, db.Relations[0].BinaryUnsafe)
	require.False(t, db.Relations[0].BinarySafe)
	require.Empty(t, db.Relations[1].BinaryUnsafe)
	require.True(t, db.Relations[1].BinarySafe)
}

func TestBinarySafetyOfATypeThatHoldsItself(t *testing.T) {
	t.Parallel()
	types := map[uint32]*typeFacts{
		1: {kind: 'c', functions: true, parts: []uint32{2}},
		2: {kind: 'b', functions: true, array: true, parts: []uint32{1}},
	}
	require.True(t, binarySafe(types, 1))
	require.False(t, binarySafe(types, 9), "a type that is not known")
}
