package proxy

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/proxy/wire"
)

func TestSettingsOfTheSourceArePinnedAtTheTarget(t *testing.T) {
	t.Parallel()
	var pins []wire.Param
	var names [2]string
	g := newRig(t, func(c *Config) {
		c.Target.Pins = func(_ context.Context, user, database string) ([]wire.Param, error) {
			if user != names[0] || database != names[1] {
				return nil, fmt.Errorf("asked for %s in %s, which no client knows", user, database)
			}
			return pins, nil
		}
	})
	names = [2]string{g.source.User(), g.source.Database()}
	super := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN("postgres"))
	run(t, super, "ALTER ROLE "+g.source.User()+" SET DateStyle = 'German'")
	run(t, super, "ALTER DATABASE "+g.source.Database()+" SET search_path = 'od d', public")
	run(t, super, "ALTER ROLE "+g.source.User()+" SET statement_timeout = '77s'")
	var err error
	pins, err = ReadPins(within(t), g.sides.Source, g.source.User(), g.source.Database())
	require.NoError(t, err)

	before := g.dial(t)
	g.toTarget(t)
	after := g.dial(t)
	for name, conn := range map[string]func(string) string{
		"moved": func(s string) string { return value(t, before, "current_setting('"+s+"')") },
		"new":   func(s string) string { return value(t, after, "current_setting('"+s+"')") },
	} {
		require.Equal(t, "German, DMY", conn("DateStyle"), name)
		require.Equal(t, `"od d", public`, conn("search_path"), name)
		require.Equal(t, "77s", conn("statement_timeout"), name)
	}
	run(t, after, "SET statement_timeout = 0; RESET statement_timeout")
	require.Equal(t, "77s", value(t, after, "current_setting('statement_timeout')"))
}
