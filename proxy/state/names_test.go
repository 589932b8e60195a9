package state

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestNamesFromStatements(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		names  []string
		opaque bool
	}{
		{"select 1", nil, false},
		{"SET app.tenant_id = '42'", []string{"app.tenant_id"}, false},
		{"set session App.Tenant TO 5; select 1", []string{"app.tenant"}, false},
		{`/* c */ SET -- x` + "\n" + ` "App"."Tenant" = 1`, []string{"app.tenant"}, false},
		{"SET a.b.c = 1", []string{"a.b.c"}, false},
		{"set search_path = app.x", nil, false},
		{"select set_config('app.user', $1, false)", []string{"app.user"}, false},
		{"select pg_catalog.set_config ( 'app.user'::text , 'x', false)", []string{"app.user"}, false},
		{"select set_config(E'app.user', 'x', false)", []string{"app.user"}, false},
		{"select set_config('work_mem', '1MB', false)", nil, false},
		{"select set_config($1, $2, false)", nil, true}, // as a Query; in a Parse it is bound
		{"select set_config('app.' || $1, $2, false)", nil, true},
		{"select set_config('app.x' 'y', $2, false)", nil, true},
		{`select "set_config"('app.quoted', 'x', false)`, []string{"app.quoted"}, false},
		{"select set_config(set_config('app.outer', 'app.inner', false), 'x', false)", []string{"app.outer"}, true},
		{"select set_config('app.outer', set_config('app.inner', 'x', false), false)", []string{"app.inner", "app.outer"}, false},
		{"select set_config($1, $2, true)", nil, false},
		{"select set_config($1, coalesce($2, 'a,b'), true), 1", nil, false},
		{"select set_config(name, setting, false) from settings", nil, true},
		{"insert into notes values ('call set_config(name, value)')", nil, false},
		{"select 1 -- set_config($1, $2, false)", nil, false},
		{"do $$ begin perform set_config('app.z', '1', false); end $$", []string{"app.z"}, false},
		{"do $$ begin perform set_config(v, '1', false); end $$", nil, true},
		{"do 'begin perform set_config(v, ''1'', false); end'", nil, true},
		{"do language plpgsql $$ begin perform set_config(v, '1', true); end $$", nil, false},
		{"select 1; do $$ begin perform set_config(v, '1', false); end $$", nil, true},
		{"do $$ begin execute 'select set_config(' || quote_literal(v) || ', $1, false)'; end $$", nil, true},
		{"do $$ begin execute format('select set_config(%L, %L, false)', k, v); end $$", nil, true},
		{"do $$ begin execute format('set app.%I = %L', k, v); end $$", nil, true},
		{"do $$ begin execute 'set ' || k || ' = 1'; end $$", nil, true},
		{"do $$ begin execute 'set session app.' || k; end $$", nil, true},
		{"do $$ begin execute 'set local app.' || k; end $$", nil, false},
		{"do $$ begin execute format('update %I set %I = 1', t, k); end $$", nil, false},
		{"do $$ begin execute 'set role ' || quote_ident(k); end $$", nil, false},
		{"insert into notes values ('set ')", nil, false},
		{"create function f() returns void as $$ select set_config(v, '1', false) $$ language sql", nil, true},
		{"create or replace procedure f() language plpython3u as $$ plpy.execute(\"SET app.\" + k) $$", nil, true},
		{"create function f() returns void as $$ select set_config('app.f', '1', false) $$ language sql", []string{"app.f"}, false},
		{"prepare p (text, text) as select set_config($1, $2, false); execute p('app.e', 'x')", []string{"app.e"}, false},
		{"prepare p as select set_config($1, $2, false); execute p('app.' || 'e', 'x')", nil, true},
		{"prepare p as select set_config($2, $1, false); explain analyze execute p('x', 'app.e'::text)", []string{"app.e"}, false},
		{"do $$ begin execute 'set app.dyn = 1'; end $$", []string{"app.dyn"}, false},
		{"SET app.größe = 1", nil, true},
		{"select 'it''s' , current_setting('app.q', true)", []string{"app.q"}, false},
		{"update t set a.b = 1", []string{"a.b"}, false},
		{"select $tag$ set x.y = 1 $tag$", []string{"x.y"}, false},
	} {
		var n Names
		n.statement([]byte(c.text), containsSet([]byte(c.text)))
		got := n.List()
		slices.Sort(got)
		if len(got) == 0 {
			got = nil
		}
		require.Equal(t, c.names, got, c.text)
		require.Equal(t, c.opaque, n.OpaqueReason() != "", "%s: %s", c.text, n.OpaqueReason())
	}
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	var n Names
	for i := range maxNames + 10 {
		n.Add("app." + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)))
	}
	require.Len(t, n.List(), maxNames)
	require.NotEmpty(t, n.OpaqueReason())
}

func TestNamesOfPlainStatementsAllocateNothing(t *testing.T) {
	var n Names
	text := []byte("select id, name from accounts where id = $1 and seen < now()")
	require.Zero(t, testing.AllocsPerRun(100, func() { n.statement(text, containsSet(text)) }))
}

func FuzzNames(f *testing.F) {
	f.Add("set a.b = E'\\'' ; do $$ set_config( $$")
	f.Add("select $a$ $a$ \"x\"\"y\" U&'\\0041' /* /* */")
	f.Fuzz(func(_ *testing.T, text string) {
		var n Names
		n.statement([]byte(text), containsSet([]byte(text)))
		_, _ = findPrepare(text, "a", true)
	})
}

func TestRebuildPrepare(t *testing.T) {
	t.Parallel()
	int4 := Type{OID: 23, Schema: "pg_catalog", Name: "int4"}
	mood := Type{OID: 20000, Schema: `we"ird`, Name: "mood"}
	for _, c := range []struct {
		s    Statement
		want string
	}{
		{Statement{Name: "a", Text: "PREPARE a AS SELECT 1"}, `PREPARE "a" AS SELECT 1`},
		{Statement{Name: "a", Text: "insert into t values (1); prepare A(int) as select $1;", Types: []Type{int4}},
			`PREPARE "a" ("pg_catalog"."int4") AS select $1`},
		{Statement{Name: "b", Text: `prepare a as select ';' ; PREPARE "b" ( "x"."y", numeric(3,2) ) AS
			select $1 -- ; no end
			, 2 ; select 3`, Types: []Type{mood}},
			"PREPARE \"b\" (\"we\"\"ird\".\"mood\") AS select $1 -- ; no end\n\t\t\t, 2"},
		{Statement{Name: "a", Text: "prepare a as select 1; deallocate a; prepare a as select 2"}, ""},
		{Statement{Name: "a", Text: "do $$ begin execute 'prepare a as select 1'; end $$"}, ""},
		{Statement{Name: "a", Text: `prepare a as select '\'; select 1`}, ""},
		{Statement{Name: "a", Text: `prepare a as select 'x\y'`}, `PREPARE "a" AS select 'x\y'`},
		{Statement{Name: "a", Text: "prepare a as"}, ""},
	} {
		got, err := RebuildPrepare(c.s)
		if c.want == "" {
			require.Error(t, err, c.s.Text)
			continue
		}
		require.NoError(t, err, c.s.Text)
		require.Equal(t, c.want, got)
	}
	under := map[string]string{"standard_conforming_strings": "on"}
	for _, c := range []struct{ text, want string }{
		{"insert into t values ('ü'); prepare A(int) as select $1; select 2", "                            prepare A(int) as select $1"},
		{"/* a */ prepare a as select 1; -- end", "/* a */ prepare a as select 1; -- end"},
		{`prepare a as select '\'; select 1`, `prepare a as select '\'`},
	} {
		got, err := RebuildPrepare(Statement{Name: "a", Text: c.text, Types: []Type{int4}, Under: under})
		require.Equal(t, c.want, got)
		require.NoError(t, err)
		again, err := RebuildPrepare(Statement{Name: "a", Text: got, Types: []Type{int4}, Under: under})
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	again, err := RebuildPrepare(Statement{Name: "a", Text: `PREPARE "a" ("pg_catalog"."int4") AS select $1`, Types: []Type{int4}})
	require.NoError(t, err)
	require.Equal(t, `PREPARE "a" ("pg_catalog"."int4") AS select $1`, again, "a rebuilt one rebuilds to itself")
}

func TestContainsSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[setSETx ]{0,12}`).Draw(t, "text")
		require.Equal(t, strings.Contains(strings.ToLower(text), "set"), containsSet([]byte(text)), text)
	})
}
