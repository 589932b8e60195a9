package proxy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/typemap"
)

// drifted makes a rig whose two sides have the same types under other numbers, such
// that a number of one side is that of another type at the other.
func drifted(t *testing.T, change ...func(*Config)) *rig {
	t.Helper()
	g := newRig(t, change...)
	types := []string{
		"CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad')",
		"CREATE TYPE colour AS ENUM ('red', 'green')",
		"CREATE DOMAIN moods AS mood[]",
		"CREATE TYPE pair AS (m mood, c colour, all_of mood[])",
		"CREATE TYPE span AS RANGE (subtype = int4)",
		"CREATE TABLE felt (id int PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], d moods)",
	}
	source, target := pgtest.Conn(t, g.source), pgtest.Conn(t, g.target)
	for _, sql := range types {
		pgtest.Exec(t, source, sql)
	}
	types[0], types[1] = types[1], types[0]
	for i, sql := range types {
		if i == 1 {
			pgtest.Exec(t, target, "CREATE TABLE between (a int); DROP TABLE between")
		}
		pgtest.Exec(t, target, sql)
		if i == 1 { // mood
			differ(t, source, target, strings.Replace(sql, "TYPE mood", "TYPE public.mood", 1))
		}
	}
	for _, conn := range []*pgx.Conn{source, target} {
		pgtest.Exec(t, conn, `INSERT INTO felt VALUES (1, 'glad', '{sad,glad}', '(ok,red,"{sad}")', ARRAY['(sad,green,"{ok,glad}")'::pair], '{ok}')`)
	}
	return g
}

// numbers are what a client is told of a statement's parameters and columns.
func numbers(t *testing.T, conn *pgx.Conn, name, sql string) []uint32 {
	t.Helper()
	st, err := conn.Prepare(within(t), name, sql)
	require.NoError(t, err)
	list := slices.Clone(st.ParamOIDs)
	for _, f := range st.Fields {
		list = append(list, f.DataTypeOID)
	}
	return list
}

const felt = "SELECT m, ms, p, ps, d, p::record FROM felt WHERE m = $1 AND ms = $2 AND p = $3::pair AND d = $4::moods"

// read runs a statement in binary, with parameters of all kinds, as a driver does that
// has looked at the types once, and returns the values as they came.
func read(t *testing.T, conn *pgx.Conn, name string, params [][]byte) [][]byte {
	t.Helper()
	r := conn.PgConn().ExecPrepared(within(t), name, params, []int16{1}, []int16{1}).Read()
	require.NoError(t, r.Err)
	require.Len(t, r.Rows, 1)
	return r.Rows[0]
}

// TestNumbersOfTypesStayTrue moves a session that has prepared statements, parameters
// and rows with numbers of types in them, to and fro.
func TestNumbersOfTypesStayTrue(t *testing.T) {
	t.Parallel()
	g := drifted(t)
	direct := pgtest.Conn(t, g.source)
	want := numbers(t, direct, "st", felt)
	raw := direct.PgConn().ExecParams(within(t), "SELECT m, ms, p, d, ps, p::record FROM felt", nil, nil, nil, []int16{1}).Read()
	require.NoError(t, raw.Err)
	params := raw.Rows[0][:4]
	rows := read(t, direct, "st", params)

	old := g.dial(t)
	require.Equal(t, want, numbers(t, old, "st", felt))
	loaded, err := old.LoadTypes(within(t), []string{"mood", "_mood", "colour", "pair", "_pair"})
	require.NoError(t, err)
	for i := range 4 {
		for j := range 2 {
			if i%2 == 1 {
				require.Equal(t, Target, g.side(t, old))
			}
			require.Equal(t, rows, read(t, old, "st", params), "prepared before, turn %d", i)
			name := strings.Repeat("x", 2*i+j+1)
			require.Equal(t, want, numbers(t, old, name, felt), "prepared now, turn %d", i)
			require.Equal(t, rows, read(t, old, name, params))
			fresh := g.dial(t)
			require.Equal(t, want, numbers(t, fresh, "st", felt), "a new session, turn %d", i)
			require.Equal(t, rows, read(t, fresh, "st", params))
			again, err := fresh.LoadTypes(within(t), []string{"mood", "_mood", "colour", "pair", "_pair"})
			require.NoError(t, err)
			for k := range again {
				require.Equal(t, loaded[k].OID, again[k].OID, "%s, as the catalog says in turn %d", again[k].Name, i)
			}
			require.NoError(t, fresh.Close(context.Background()))
		}
		if i%2 == 0 {
			g.toTarget(t)
		} else {
			g.toSource(t)
		}
	}
	// What the client names by number reaches the right type.
	g.toTarget(t)
	st := old.PgConn().ExecParams(within(t), "SELECT $1::text, pg_typeof($2)::text", [][]byte{[]byte("a"), []byte("glad")}, []uint32{25, want[0]}, nil, nil).Read()
	require.NoError(t, st.Err)
	require.Equal(t, "mood", string(st.Rows[0][1]))
	// The unnamed statement, which only the proxy remembers, in the client's numbers.
	_, err = old.PgConn().Prepare(within(t), "", "SELECT $1::mood", []uint32{want[0]})
	require.NoError(t, err)
	g.toSource(t)
	r := old.PgConn().ExecPrepared(within(t), "", [][]byte{[]byte("glad")}, nil, nil).Read()
	require.NoError(t, r.Err)
}

// keptTypes is a TypeStore as a daemon has it.
type keptTypes struct {
	mu    sync.Mutex
	types map[string][]typemap.Type
}

func (k *keptTypes) LoadTypes(_ context.Context, database string) ([]typemap.Type, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.types[database], nil
}

func (k *keptTypes) KeepTypes(_ context.Context, database string, types []typemap.Type) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.types[database] = types
	return nil
}

// TestNumbersOfTypesAreKept: a proxy that is started after the switch, with the source gone, tells
// the source's numbers.
func TestNumbersOfTypesAreKept(t *testing.T) {
	t.Parallel()
	kept := &keptTypes{types: map[string][]typemap.Type{}}
	g := drifted(t, func(c *Config) { c.Types = kept })
	want := numbers(t, g.dial(t), "st", felt)
	g.toTarget(t)
	g.stop()
	g.start(t, func(c *Config) {
		c.Types, c.Active, c.Epoch = kept, Target, g.epoch
		c.Source.Dial.Address = "127.0.0.1:1"
	})
	conn := g.dial(t)
	require.Equal(t, Target, g.side(t, conn))
	require.Equal(t, want, numbers(t, conn, "st", felt))
}

// TestNumbersOfTypesWithoutASession: a switch that nobody is there for keeps the
// numbers for those who come later.
func TestNumbersOfTypesWithoutASession(t *testing.T) {
	t.Parallel()
	g := drifted(t)
	g.stop()
	g.start(t, func(c *Config) { c.User, c.Database = g.source.User(), g.source.Database() })
	want := numbers(t, pgtest.Conn(t, g.source), "st", felt)
	g.toTarget(t)
	conn := g.dial(t)
	require.Equal(t, Target, g.side(t, conn))
	require.Equal(t, want, numbers(t, conn, "st", felt))
}
