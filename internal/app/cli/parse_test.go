package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/options"
)

func TestAnArgumentThatMayBeASecretIsNotShown(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "postgresql://bob:s3cret@h/shop"},
		{"check", "host=h password=s3cret"},
		{"copy", "--jobs=2", "password=s3cret"},
		{"status", "postgresql://bob:s3cret@h/shop", "--json"},
		{"postgresql://bob:s3cret@h/shop"},
		{"copy", "--source", "--target=postgresql://bob:s3cret@h/shop"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exit.CodeUsage, Main(args, &stdout, &stderr), args)
		require.NotContains(t, stdout.String()+stderr.String(), "s3cret", args)
		require.Contains(t, stdout.String()+stderr.String(), "--source", args)
	}
	for _, flag := range []string{"--jobs", "--rename-database", "--large-objects", "--max-rate", "--log-level"} { // what comes after the wrong flag
		var stdout, stderr bytes.Buffer
		require.Equal(t, exit.CodeUsage, Main([]string{"copy", "--source=a=b", "--target=a=b", flag + "=postgresql://bob:s3cret@h/shop"}, &stdout, &stderr), flag)
		require.NotContains(t, stdout.String()+stderr.String(), "s3cret", flag)
		require.Contains(t, stderr.String(), flag)
	}
	var stdout, stderr bytes.Buffer
	require.Equal(t, exit.CodeUsage, Main([]string{"statsu"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "statsu")
	require.Contains(t, stderr.String(), "status", "what was meant")
}

// What the parser says of a value is put into words that say what to write.
func TestWrongUsageSaysWhatToWrite(t *testing.T) {
	t.Parallel()
	both := []string{"--source=postgresql://u@h/a", "--target=postgresql://u@h/b"}
	for _, c := range []struct {
		args []string
		says string
	}{
		{append([]string{"copy", "--jobs", "-3"}, both...), "--jobs needs a value: write --jobs=" + strconv.Itoa(options.DefaultJobs())},
		{append([]string{"copy", "--jobs=many"}, both...), `--jobs: "many" is not a whole number: write one, such as --jobs=`},
		{append([]string{"copy", "--rename-database=x"}, both...), "--rename-database: its value has no =: write --rename-database=OLD=NEW"},
		{[]string{"copy", "--source"}, "--source needs a value: write --source=DSN"},
		{[]string{"copy", "--source", "--target=x"}, "--source needs a value: write --source=DSN"},
		{[]string{"copy", "--source=a=b"}, "missing flags: --target=DSN; give each here or in the environment, such as CROSSFADE_TARGET"},
		{[]string{"cutover", "--drain-timeout=5"}, `--drain-timeout: "5" is not a duration: write a number with its unit, such as --drain-timeout=2s`},
		{[]string{"cutover", "--drain-timeout"}, "--drain-timeout needs a value: write --drain-timeout=2s"},
		{[]string{"cutover", "--unmovable=kill"}, `--unmovable: "kill" is not one of the values that it takes: write one of wait, abort, disconnect`},
		{[]string{"cutover", "--attempts=1.5"}, `--attempts: "1.5" is not a whole number: write one, such as --attempts=5`},
		{[]string{"cutover", "--dry-run", "--rehearse"}, "--dry-run and --rehearse cannot be combined: give one of them"},
		{[]string{"finish", "--accept"}, "--accept needs a value: write --accept=TABLE"},
		{[]string{"limits", "--max-rate"}, "--max-rate needs a value: write --max-rate=RATE"},
		{[]string{"status", "--json=maybe"}, "--json: it takes no value but true and false: write --json, or leave it out"},
		{[]string{"status", "-x"}, "unknown flag -x: flags have no short form, except -h"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exit.CodeUsage, Main(c.args, &stdout, &stderr), c.args)
		require.Contains(t, stderr.String(), "crossfade: "+c.says, c.args)
		for _, words := range []string{"expected", "EOL", "bit int", "value value", "(short flag)"} {
			require.NotContains(t, stderr.String(), words, c.args)
		}
	}
}

func TestAVariableThatCannotBeUsedIsNamed(t *testing.T) {
	t.Setenv("CROSSFADE_JOBS", "many")
	var stdout, stderr bytes.Buffer
	require.Equal(t, exit.CodeUsage, Main([]string{"copy", "--source=a=b", "--target=a=b"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), `--jobs (from CROSSFADE_JOBS): "many" is not a whole number`)
}

func TestWrongUsageIsJSONWhereThatWasAskedFor(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	require.Equal(t, exit.CodeUsage, Main([]string{"status", "--json", "--bogus"}, &stdout, &stderr))
	require.Empty(t, stderr.String())
	var told control.Error
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &told))
	require.Equal(t, control.CodeUsage, told.Code)
	require.Contains(t, told.Message, "--bogus")
}

func TestAVariableThatNamesAVersionAsksForNothing(t *testing.T) {
	t.Setenv("CROSSFADE_VERSION", "1.2.3")
	var stdout, stderr bytes.Buffer
	require.Equal(t, exit.CodeRefused, Main([]string{"status", "--control=" + filepath.Join(t.TempDir(), "nobody")}, &stdout, &stderr))
	require.NotContains(t, stdout.String(), "commit")
}

func TestAConfigurationFileThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(content string) string {
		file := filepath.Join(dir, "c.json")
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		var stdout, stderr bytes.Buffer
		require.Equal(t, exit.CodeUsage, Main([]string{"run", "--source=postgresql://u@h/a", "--target=postgresql://u@h/b", "--config=" + file}, &stdout, &stderr), content)
		return stderr.String()
	}
	require.Contains(t, run(`{bad`), "c.json: read JSON object")
	require.Contains(t, run(`{"listen":"127.0.0.1:1"} {}`), "more than one")
	require.Contains(t, run(`{"lissen":"127.0.0.1:1"}`), `there is no flag "lissen"`)
	require.Contains(t, run(`{"listen":"127.0.0.1:1","jobs":"many"}`), "--jobs")
	for _, spelled := range []string{"wal-budget", "wal_budget"} {
		require.Contains(t, run(`{"listen":"127.0.0.1:1","`+spelled+`":"little"}`), "little")
	}
	var stdout, stderr bytes.Buffer
	require.Equal(t, exit.CodeUsage, Main([]string{"run", "--source=a=b", "--target=a=b", "--config=" + dir + "/none"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "--config")
}
