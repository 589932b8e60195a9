package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
)

func TestWhatGoesWrongIsJSONWhereThatWasAskedFor(t *testing.T) {
	nobody := "--control=" + filepath.Join(t.TempDir(), "nobody")
	for _, c := range []struct {
		args []string
		exit int
		code string
	}{
		{[]string{"status", nobody}, exit.CodeRefused, control.CodeUnreachable},
		{[]string{"cutover", nobody}, exit.CodeRefused, control.CodeUnreachable},
		{[]string{"cutover", "--cancel", nobody}, exit.CodeRefused, control.CodeUnreachable},
		{[]string{"cutover", "--attempts=0", nobody}, exit.CodeUsage, control.CodeUsage},
		{[]string{"finish", nobody}, exit.CodeRefused, control.CodeUnreachable},
		{[]string{"fallback", nobody}, exit.CodeRefused, control.CodeUnreachable},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, c.exit, Main(append(c.args, "--json"), &stdout, &stderr), c.args)
		require.Empty(t, stderr.String(), c.args)
		var told control.Error
		d := json.NewDecoder(&stdout)
		require.NoError(t, d.Decode(&told), c.args)
		require.False(t, d.More(), "one object")
		require.Equal(t, c.code, told.Code, c.args)
		require.NotEmpty(t, told.Message)

		stdout.Reset()
		require.Equal(t, c.exit, Main(c.args, &stdout, &stderr), c.args)
		require.Empty(t, stdout.String())
		require.Contains(t, stderr.String(), "crossfade: "+told.Message)
	}
}

// TestStatementsToTypeKeepTheirLines: a refusal that a run tells may hold a statement of several
// lines.
func TestStatementsToTypeKeepTheirLines(t *testing.T) {
	t.Parallel()
	const statement = "on the target: CREATE FUNCTION public.f() RETURNS int\n    LANGUAGE sql\n    AS 'SELECT 1';"
	var stderr bytes.Buffer
	refused := &control.Error{Code: control.CodeRefused, Message: "the cutover is refused: FUNCTION public.f was made on the source", Remedy: statement}
	require.Equal(t, exit.CodeRefused, report(fmt.Errorf("cutover: %w", refused), &stderr))
	require.Contains(t, stderr.String(), statement+"\n")
	stderr.Reset()
	require.Equal(t, exit.CodeRefused, report(errors.Join(errors.New("source: gone"), errors.New("target: gone")), &stderr))
	require.Equal(t, "crossfade: source: gone; target: gone\n", stderr.String())
}
