package daemon

import (
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/app/check"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/logins"
	"crossfade/internal/app/options"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// A slip in a name would leave undone what was asked for: the role keeps its name, or its finding
// refuses.
func TestARoleThatTheSourceDoesNotHaveIsRefusedByName(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Database(t, pgtest.Shared(t, pgtest.Source)), pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	for what, set := range map[string]func(*options.Run){
		"--map-role nosuch=" + target.User(): func(c *options.Run) {
			c.MapRole = map[string]string{"nosuch": target.User(), source.User(): target.User()}
		},
		"--map-role nosuch=-":    func(c *options.Run) { c.MapRole = map[string]string{"nosuch": logins.NoRole} },
		"--accept-rights nosuch": func(c *options.Run) { c.AcceptRights = []string{source.User(), "nosuch"} },
	} {
		cfg := runConfig(t, source, target)
		set(&cfg)
		_, err := check.Run(t.Context(), cfg, nil)
		ran := Run(t.Context(), cfg, zerolog.Nop(), nil)
		for _, err := range []error{err, ran} {
			require.ErrorContains(t, err, what+": the source has no role \"nosuch\"")
			require.NotContains(t, err.Error(), "\n", "the others are there")
			require.Equal(t, exit.CodeUsage, exit.Code(err))
		}
	}
	require.Equal(t, "0", pgtest.Value(t, pgtest.Conn(t, source), `SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'`))
}
