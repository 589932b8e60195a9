package preflight

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
		"blocker table_not_owned public.a belongs to app", "blocker table_not_owned public.b belongs to app", "blocker table_not_owned public.c belongs to app", "do: GRANT app TO mover",
		"blocker wal_level source wal_level is replica", "do: ALTER SYSTEM SET wal_level = 'logical' <now>",
		"blocker a x is so", "blocker a x is so", "blocked: 6 blockers, 0 warnings", "",
	}, lines)

	out.Reset()
	cache := warned
	cache.SQL, cache.On = "ALTER TABLE \"a\nb\" SET LOGGED", Source
	r := Report{Findings: []Finding{owned("public.a"), owned("public.b"), blocked, cache, {Code: "x", Severity: Blocker, SQL: "CREATE ROLE r", On: Target}, told}}
	require.NoError(t, WriteSQL(&out, r, ""))
	require.Equal(t, `-- on the source
GRANT app TO mover;
-- unlogged_table public.cache; if that matters: ALTER TABLE "a b" SET LOGGED;
-- on the target
CREATE ROLE r;
-- 1 blocker without a statement: see crossfade check
`, out.String())
	out.Reset()
	require.NoError(t, WriteSQL(&out, Report{Findings: r.Findings, Incomplete: []Incomplete{{"version", errors.New("gone")}}}, Target))
	require.Equal(t, "-- on the target\nCREATE ROLE r;\n-- 1 blocker without a statement: see crossfade check\n-- 1 check without an answer: see crossfade check\n", out.String())
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
