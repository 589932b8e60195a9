package state

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNumbersOfBackendsAreFound(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"SELECT pg_cancel_backend(17)":                                                              "17",
		"select pg_catalog.pg_terminate_backend( 17 , 5000)":                                        "17",
		"SELECT pg_terminate_backend('17')":                                                         "17",
		"SELECT pg_terminate_backend($1::int)":                                                      "$0",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = 17 AND datname = 'x5'":  "17",
		"SELECT * FROM pg_stat_activity a WHERE a.pid <> $2 AND 18 = a.pid":                         "$1 18",
		"SELECT * FROM pg_locks WHERE pid IN (17, 18) OR pid = ANY($1)":                             "17 18 $0",
		"SELECT * FROM pg_locks WHERE pid = ANY(ARRAY[17,18]) LIMIT 5":                              "17 18",
		"SELECT pid, 17 FROM pg_stat_activity WHERE backend_type = 'x' AND usesysid = 10 OFFSET 17": "",
		"SELECT PG_TERMINATE_BACKEND(17)":                                                           "17",
		"Select Pid From Pg_Stat_Activity Where PID = 17":                                           "17",
		"SELECT unnest(pg_blocking_pids(17))":                                                       "17",
	} {
		b := FindBackends(text)
		var got []string
		for _, l := range b.Literals {
			got = append(got, text[l[0]:l[1]])
		}
		for _, p := range b.Params {
			got = append(got, fmt.Sprintf("$%d", p))
		}
		wanted := strings.Fields(want)
		require.ElementsMatch(t, wanted, got, text)
		require.True(t, AboutBackends([]byte(text)), text)
	}
	for _, text := range []string{"SELECT * FROM products WHERE pid = 17", "_", "g_", "pg_", "SELECT a_b FROM pg_class"} {
		require.False(t, AboutBackends([]byte(text)), text)
	}
}

func TestNumbersInExecuteAreFound(t *testing.T) {
	t.Parallel()
	params := map[string][]int{"s": {0}, "t": {1, 2}, "Odd": {0}}
	for text, want := range map[string]string{
		"EXECUTE s(17)":                                "17",
		"execute S ( '17' :: int )":                    "17",
		"EXECUTE t(1, 2, 3, 4)":                        "2 3",
		"EXECUTE t(f(1, 2), 3); EXECUTE \"Odd\"(7)":    "3 7",
		"EXECUTE other(17)":                            "",
		"EXECUTE s":                                    "",
		"EXECUTE s; SELECT (17)":                       "",
		"EXECUTE s(1 + 17)":                            "1",
		"EXECUTE s(-17)":                               "",
		"SELECT 'EXECUTE s(17)' -- EXECUTE s(18)":      "",
		"EXPLAIN ANALYZE EXECUTE s(17); SELECT 17, 18": "17",
		"EXECUTE s(17":                                 "17",
	} {
		var got []string
		for _, l := range FindExecuted(text, params) {
			got = append(got, text[l[0]:l[1]])
		}
		require.Equal(t, strings.Fields(want), append([]string{}, got...), text)
	}
	for text, want := range map[string]string{
		"PREPARE a AS SELECT 1": "a", `prepare "A" (int) AS SELECT $1`: "A", "PREPARE TRANSACTION 'x'": "", "PREPARE a AS SELECT 1; PREPARE b AS SELECT 2": "", "SELECT 1": "",
	} {
		name, ok := Prepares(text)
		require.Equal(t, want, name, text)
		require.Equal(t, want != "", ok, text)
	}
}
