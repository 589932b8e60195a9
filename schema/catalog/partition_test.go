package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

const trees = `
	CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN code AS text; CREATE COLLATION nd (provider = icu, locale = 'und', deterministic = false);
	CREATE FUNCTION half(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 2';
	CREATE TABLE hash_int (k int, v uuid) PARTITION BY HASH (k, v); CREATE TABLE hash_int_0 PARTITION OF hash_int FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE hash_text (k varchar(9)) PARTITION BY HASH (k); CREATE TABLE hash_text_0 PARTITION OF hash_text FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE hash_code (k code) PARTITION BY HASH (k); CREATE TABLE hash_code_0 PARTITION OF hash_code FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE hash_enum (k mood) PARTITION BY HASH (k); CREATE TABLE hash_enum_0 PARTITION OF hash_enum FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE hash_enums (k mood[]) PARTITION BY HASH (k); CREATE TABLE hash_enums_0 PARTITION OF hash_enums FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE hash_nd (k text COLLATE nd) PARTITION BY HASH (k); CREATE TABLE hash_nd_0 PARTITION OF hash_nd FOR VALUES WITH (MODULUS 1, REMAINDER 0);
	CREATE TABLE list_enum (k mood) PARTITION BY LIST (k); CREATE TABLE list_enum_0 PARTITION OF list_enum DEFAULT;
	CREATE TABLE list_text (k text COLLATE "en-x-icu") PARTITION BY LIST (k); CREATE TABLE list_text_0 PARTITION OF list_text DEFAULT;
	CREATE TABLE list_class (k regclass) PARTITION BY LIST (k); CREATE TABLE list_class_0 PARTITION OF list_class DEFAULT;
	CREATE TABLE range_enum (k mood) PARTITION BY RANGE (k); CREATE TABLE range_enum_0 PARTITION OF range_enum DEFAULT;
	CREATE TABLE range_date (k timestamptz) PARTITION BY RANGE (k); CREATE TABLE range_date_0 PARTITION OF range_date DEFAULT;
	CREATE TABLE range_text (k text) PARTITION BY RANGE (k); CREATE TABLE range_text_0 PARTITION OF range_text DEFAULT;
	CREATE TABLE range_c (k text COLLATE "C") PARTITION BY RANGE (k); CREATE TABLE range_c_0 PARTITION OF range_c DEFAULT;
	CREATE TABLE range_icu (k text COLLATE "en-x-icu") PARTITION BY RANGE (k); CREATE TABLE range_icu_0 PARTITION OF range_icu DEFAULT;
	CREATE TABLE expr (k int, s text) PARTITION BY RANGE ((k % 10)); CREATE TABLE expr_0 PARTITION OF expr DEFAULT;
	CREATE TABLE expr_user (k int) PARTITION BY RANGE (half(k)); CREATE TABLE expr_user_0 PARTITION OF expr_user DEFAULT;
	CREATE TABLE expr_lower (k text) PARTITION BY LIST (lower(k)); CREATE TABLE expr_lower_0 PARTITION OF expr_lower DEFAULT;
	CREATE TABLE top (d date, m mood) PARTITION BY RANGE (d); CREATE TABLE top_mid PARTITION OF top FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') PARTITION BY HASH (m);
	CREATE TABLE top_leaf PARTITION OF top_mid FOR VALUES WITH (MODULUS 1, REMAINDER 0); CREATE TABLE top_rest PARTITION OF top DEFAULT`

func readTrees(t *testing.T, kind pgtest.Kind) *Database {
	t.Helper()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, kind)))
	pgtest.Exec(t, conn, trees)
	db, err := Read(t.Context(), conn)
	require.NoError(t, err)
	return db
}

func via(db *Database, routes map[uint32]Route) map[string]string {
	out := map[string]string{}
	for oid, r := range routes {
		out[db.Relation(oid).Rel] = r.Via.Rel
	}
	return out
}

func TestTreesWhoseRowsAnotherServerRoutesOtherwise(t *testing.T) {
	t.Parallel()
	source, target := readTrees(t, pgtest.Source), readTrees(t, pgtest.Target)
	want := map[string]string{"hash_enum_0": "hash_enum", "hash_enums_0": "hash_enums", "hash_nd_0": "hash_nd", "list_class_0": "list_class", "range_enum_0": "range_enum",
		"expr_user_0": "expr_user", "expr_lower_0": "expr_lower", "top_leaf": "top_mid"}
	routes := source.RoutesTo(target)
	require.Equal(t, want, via(source, routes))
	for _, r := range routes {
		require.NotEmpty(t, r.Why)
	}

	// The same servers, but for the locale of the one and the hash functions of the other.
	keys := func(name string) []PartitionKey {
		return target.Lookup(pg.Name{Schema: "public", Name: name}).PartitionKeys
	}
	require.Equal(t, BytesOrder, keys("range_text")[0].Order)
	require.Contains(t, keys("range_icu")[0].Order, "i:en@")
	keys("range_text")[0].Order, keys("range_icu")[0].Order = "c:en_US.UTF-8@2.36", "i:en@another"
	want["range_text_0"], want["range_icu_0"] = "range_text", "range_icu"
	require.Equal(t, want, via(source, source.RoutesTo(target)))
	target.HashProbe = "other"
	for _, name := range []string{"hash_int", "hash_text", "hash_code"} {
		want[name+"_0"] = name
	}
	require.Equal(t, want, via(source, source.RoutesTo(target)))
}
