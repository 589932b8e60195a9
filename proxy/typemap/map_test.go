package typemap

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// mood is an enum that has number 16500 for the clients and 16600 on the server; its
// array and a composite of it follow. The server has a table's type at 16500.
var (
	clientTypes = []Type{
		{OID: 16500, Schema: "public", Name: "mood", Kind: 'e'},
		{OID: 16501, Schema: "public", Name: "mood", Kind: KindArray, Elem: 16500},
		{OID: 16502, Schema: "public", Name: "pair", Kind: KindComposite},
		{OID: 16503, Schema: "public", Name: "gone", Kind: 'e'},
	}
	serverTypes = []Type{
		{OID: 16600, Schema: "public", Name: "mood", Kind: 'e'},
		{OID: 16601, Schema: "public", Name: "mood", Kind: KindArray, Elem: 16600},
		{OID: 16602, Schema: "public", Name: "pair", Kind: KindComposite},
		{OID: 16500, Schema: "public", Name: "fresh", Kind: 'e'},
		{OID: 16700, Schema: "public", Name: "other", Kind: 'e'},
		{OID: 16701, Schema: "public", Name: "feels", Kind: KindDomain, Elem: 16601},
	}
)

func TestMapByName(t *testing.T) {
	t.Parallel()
	m := New(clientTypes, serverTypes)
	require.EqualValues(t, 16500, m.ToClient(16600))
	require.EqualValues(t, 16600, m.ToServer(16500))
	require.EqualValues(t, 16501, m.ToClient(16601))
	require.EqualValues(t, 25, m.ToClient(25))
	require.EqualValues(t, 16700, m.ToClient(16700), "a type of the server alone keeps its number")
	require.EqualValues(t, 16500|aside, m.ToClient(16500), "unless clients know that for another type")
	require.EqualValues(t, 16500, m.ToServer(16500|aside))
	require.Nil(t, New(clientTypes, clientTypes), "nothing differs")
	var none *Map
	require.EqualValues(t, 16500, none.ToClient(16500))
	for oid, want := range map[uint32]bool{25: false, 16600: false, 16601: true, 16602: true, 16701: true, recordOID: true, 99999: false} {
		require.Equal(t, want, m.carries(oid), oid)
	}
}

// TestMapIsABijection: what the server says and the client says back is what the server said.
func TestMapIsABijection(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.Uint32Range(FirstUser, FirstUser+40)
		list := func(label string) []Type {
			var types []Type
			for _, oid := range rapid.SliceOfNDistinct(number, 0, 20, rapid.ID).Draw(t, label) {
				types = append(types, Type{OID: oid, Schema: "s", Name: rapid.StringMatching("[a-z]").Draw(t, "name")})
			}
			seen := map[string]bool{}
			var unique []Type
			for _, ty := range types {
				if !seen[ty.Name] {
					seen[ty.Name] = true
					unique = append(unique, ty)
				}
			}
			return unique
		}
		m := New(list("client"), list("server"))
		seen := map[uint32]uint32{}
		for oid := uint32(FirstUser); oid < FirstUser+41; oid++ {
			c := m.ToClient(oid)
			require.Equal(t, oid, m.ToServer(c))
			require.NotContains(t, seen, c)
			seen[c] = oid
		}
	})
}

// catalogQueries are queries of the catalog, and which of their parameters are numbers of types.
var catalogQueries = map[string][]int{
	"SELECT typname FROM pg_type WHERE oid = $1":                                                            {0},
	"SELECT t.typname FROM pg_catalog.pg_type AS t JOIN pg_namespace n ON n.oid = $1 WHERE t.oid = $2":      {1},
	"select 1 from PG_TYPE T where T.OID = ANY ($1::oid[]) and typelem in ($2, $3)":                         {0, 1, 2},
	"WITH x AS (SELECT * FROM pg_type) SELECT * FROM x ti WHERE ti.oid = any($1::oid[])":                    {0},
	"SELECT a.attname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = $1":       nil,
	"SELECT 1 FROM pg_class c, pg_type t WHERE c.oid = $1":                                                  nil,
	"SELECT relname FROM pg_class WHERE oid = $1":                                                           nil,
	"SELECT oid FROM mine WHERE oid = $1":                                                                   nil,
	"SELECT enumlabel FROM pg_enum WHERE enumtypid = $1 -- oid = $2":                                        {0},
	"SELECT 't.oid = $1' FROM pg_type t WHERE typname = $1":                                                 nil,
	"SELECT \"t\".\"oid\" FROM pg_type \"t\" WHERE \"t\".\"oid\" = $12 /* pg_class */":                      {11},
	"SELECT rngsubtype FROM pg_range WHERE rngtypid = $1 AND EXISTS (SELECT FROM pg_type WHERE typname='x'": {0},
	// Identifiers in quotes may be anything, and nothing at all.
	"SELECT 1 FROM pg_class \"\" JOIN pg_type t ON t.oid = \"\" WHERE t.oid = $1":          {0},
	"SELECT 1 FROM pg_type \"\" WHERE oid IN (\"\", $2, \"\") AND oid = \"\"":              {1},
	"SELECT 1 FROM pg_type t WHERE t.oid = \"$1\" OR t.oid = \"'\" OR t.oid = \"7\"":       nil,
	"SELECT 1 FROM pg_type WHERE typelem = \"\"":                                           nil,
	"SELECT E'\\' OR typelem = $1' FROM pg_type WHERE typelem = $2":                        {1},
	"SELECT $q$ typelem = $1 $q$ /* /* */ typelem = $2 */ FROM pg_type WHERE typelem = $3": {2},
	"SELECT 1 FROM pg_class \"\"":                                                          nil,
}

func TestScanFindsTheNumbersOfTypes(t *testing.T) {
	t.Parallel()
	for text, want := range catalogQueries {
		q := scan([]byte(text))
		require.Equal(t, want, q.params, text)
		require.Empty(t, q.literals, text)
	}
	require.False(t, scan([]byte("SELECT 1")).catalog)
	require.True(t, scan([]byte("SELECT oid FROM Pg_Type")).catalog)
	require.True(t, scan([]byte("select $1::text::regtype::oid")).catalog)
	require.Empty(t, scan([]byte("SELECT kind::regtype FROM blobs WHERE oid = $1")).params, "not the number of a type")
}

// FuzzScan: whatever a statement says, the numbers found in it stand in it and look like
// numbers or strings.
func FuzzScan(f *testing.F) {
	for text := range catalogQueries {
		f.Add([]byte(text))
	}
	f.Add([]byte("SELECT t.oid FROM pg_type t WHERE t.oid IN ('16500', 16501) /* '' */ OR t.typelem = ANY('{16500}')"))
	f.Fuzz(func(t *testing.T, text []byte) {
		q := scan(text)
		for _, l := range q.literals {
			require.Contains(t, "'0123456789", string(text[l.from]))
			require.Less(t, l.from, l.to)
			require.LessOrEqual(t, l.to, len(text))
		}
		for _, p := range q.params {
			require.GreaterOrEqual(t, p, 0)
		}
	})
}
