package answer

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	blocked = Finding{Code: "wal_level", Severity: Blocker, Object: "source", Detail: "wal_level is replica", Remedy: "ALTER SYSTEM SET wal_level = 'logical' <now>"}
	warned  = Finding{Code: "unlogged_table", Severity: Warning, Object: "public.cache", Detail: "is unlogged", Remedy: "SET LOGGED"}
	told    = Finding{Code: "no_fallback", Severity: Info, Detail: "there is no way back"}
)

func TestAFindingIsOneLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "unlogged_table public.cache: is unlogged; SET LOGGED", warned.String())
	require.Equal(t, "no_fallback: there is no way back", told.String())
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	unknown := []Incomplete{{"wal_level", errors.New("connection lost")}}
	require.Equal(t, ExitReady, Report{}.ExitCode())
	require.Equal(t, ExitReady, Report{Findings: []Finding{warned, told}}.ExitCode())
	require.Equal(t, ExitBlocked, Report{Findings: []Finding{warned, blocked}}.ExitCode())
	require.Equal(t, ExitIncomplete, Report{Incomplete: unknown}.ExitCode())
	require.Equal(t, ExitIncomplete, Report{Findings: []Finding{blocked}, Incomplete: unknown}.ExitCode())
}

func TestTextNamesBlockersFirstAndTheVerdictLast(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, WriteText(&out, Report{Findings: []Finding{told, warned, blocked}}))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.True(t, strings.HasPrefix(lines[0], "blocker  wal_level       source        wal_level is replica"), out.String())
	require.True(t, strings.HasSuffix(lines[1], "do: ALTER SYSTEM SET wal_level = 'logical' <now>"))
	require.Contains(t, lines[2], "warning  unlogged_table")
	require.Contains(t, lines[4], "info     no_fallback")
	require.Equal(t, "blocked: 1 blocker, 1 warning", lines[len(lines)-1])

	out.Reset()
	require.NoError(t, WriteText(&out, Report{Incomplete: []Incomplete{{"replica identity", errors.New("read:\n gone")}}}))
	require.Contains(t, out.String(), "could not complete: read: gone")
	require.Contains(t, out.String(), "could not complete: 1 check without an answer; so far 0 blockers, 0 warnings")

	out.Reset()
	require.NoError(t, WriteText(&out, Report{}))
	require.Equal(t, "ready: 0 blockers, 0 warnings\n", out.String())
}

func TestFindingsWithOneRemedyStandTogether(t *testing.T) {
	t.Parallel()
	owned := func(table string) Finding {
		return Finding{Code: "table_not_owned", Severity: Blocker, Object: table, Detail: "belongs to app", Remedy: "GRANT app TO mover", SQL: "GRANT app TO mover", On: Source}
	}
	alone := Finding{Code: "a", Severity: Blocker, Object: "x", Detail: "is so"}
	var out bytes.Buffer
	require.NoError(t, WriteText(&out, Report{Findings: []Finding{owned("public.a"), blocked, alone, owned("public.b"), alone, owned("public.c")}}))
	var lines []string
	for _, l := range strings.Split(out.String(), "\n") {
		lines = append(lines, strings.Join(strings.Fields(l), " "))
	}
	require.Equal(t, []string{
		"blocker table_not_owned public.a belongs to app", "blocker table_not_owned public.b belongs to app", "blocker table_not_owned public.c belongs to app", "do: on the source: GRANT app TO mover",
		"blocker wal_level source wal_level is replica", "do: ALTER SYSTEM SET wal_level = 'logical' <now>",
		"blocker a x is so", "blocker a x is so", "blocked: 6 blockers, 0 warnings", "",
	}, lines)
}

// Who reads a statement has two servers to type it on.
func TestTextSaysOnWhichSideAStatementIsTyped(t *testing.T) {
	t.Parallel()
	of := func(on Side, remedy string) Finding {
		return Finding{Code: "no_create_on_database", Severity: Blocker, Object: "shop", Detail: "may not be written", Remedy: remedy, SQL: remedy, On: on}
	}
	grant := "GRANT CREATE ON DATABASE shop TO mover"
	var out bytes.Buffer
	require.NoError(t, WriteText(&out, Report{Findings: []Finding{
		of(Source, grant), of(Target, grant), of(Target, grant+" on the target"), of(Source, "in the source's database: "+grant), of("", "give --clean"),
	}}))
	var do []string
	for l := range strings.Lines(out.String()) {
		if _, what, ok := strings.Cut(l, "do: "); ok {
			do = append(do, strings.TrimSpace(what))
		}
	}
	require.Equal(t, []string{"on the source: " + grant, "on the target: " + grant, grant + " on the target", "in the source's database: " + grant, "give --clean"}, do,
		"told once each, and the same statement for another side is another remedy")
	require.Contains(t, of(Target, grant).String(), "on the target: "+grant, "in one line too")
}

func TestStatementsStandAlone(t *testing.T) {
	t.Parallel()
	grant := func(table string) Finding {
		return Finding{Code: "table_not_owned", Severity: Blocker, Object: table, SQL: "GRANT app TO mover", On: Source}
	}
	cache := warned
	cache.SQL, cache.On = "ALTER TABLE public.cache SET LOGGED", Source
	extension := Finding{Code: "x", Severity: Blocker, SQL: "CREATE SCHEMA s;\nCREATE EXTENSION e", On: Target}
	unknown := []Incomplete{{"version", errors.New("gone")}}
	print := func(r Report, side Side) (sql, notes string, err error) {
		var out, said bytes.Buffer
		err = WriteSQL(&out, &said, r, side)
		return out.String(), said.String(), err
	}

	one := Report{Findings: []Finding{grant("public.a"), blocked, grant("public.b"), cache, told}}
	sql, notes, err := print(one, "")
	require.NoError(t, err)
	require.Equal(t, "GRANT app TO mover;\n", sql, "once, and nothing else")
	require.Equal(t, "1 statement, for the source\n1 blocker without a statement, and 1 warning with one that is yours to decide: see crossfade check\n", notes)

	both := Report{Findings: append(one.Findings, extension), Incomplete: unknown}
	sql, _, err = print(both, "")
	var sides *BothSidesError
	require.ErrorAs(t, err, &sides, "one psql is connected to one side")
	require.ErrorContains(t, err, "--on source")
	require.Empty(t, sql)
	for side, want := range map[Side]string{
		Source: "GRANT app TO mover;\n", Target: "CREATE SCHEMA s;\nCREATE EXTENSION e;\n", Both: "GRANT app TO mover;\n\nCREATE SCHEMA s;\nCREATE EXTENSION e;\n",
	} {
		sql, notes, err = print(both, side)
		require.NoError(t, err)
		require.Equal(t, want, sql, side)
		require.Contains(t, notes, "1 check without an answer", side)
	}
	sql, notes, err = print(Report{Findings: []Finding{told}}, "")
	require.NoError(t, err)
	require.Empty(t, sql)
	require.Equal(t, "no statement\n", notes)
	_, notes, err = print(one, Target)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(notes, "no statement for the target\n"), notes)
}

func TestJSONIsTheContract(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, WriteJSON(&out, Report{Findings: []Finding{blocked, told}, Incomplete: []Incomplete{{"version", errors.New("gone")}}}))
	require.Contains(t, out.String(), "<now>", "no HTML escapes")
	require.JSONEq(t, `{
		"ready": false, "complete": false,
		"blockers": [{"code": "wal_level", "severity": "blocker", "object": "source", "detail": "wal_level is replica", "remedy": "ALTER SYSTEM SET wal_level = 'logical' <now>"}],
		"warnings": [],
		"infos": [{"code": "no_fallback", "severity": "info", "detail": "there is no way back"}],
		"incomplete": [{"check": "version", "error": "gone"}]
	}`, out.String())

	out.Reset()
	require.NoError(t, WriteJSON(&out, Report{}))
	var d map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &d))
	require.Equal(t, true, d["ready"])
	for _, key := range []string{"blockers", "warnings", "infos", "incomplete"} {
		require.Equal(t, []any{}, d[key], key)
	}
}
