package proxy

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/wire"
)

// TestStartupOptionsMeanTheSameOnBothSides logs in with what libpq's PGOPTIONS may hold,
// without a proxy and through it, before and after a switch: what is set is the same.
func TestStartupOptionsMeanTheSameOnBothSides(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) {
		c.Auth = trustAll{}
		source := c.Source
		c.Target.Pins = func(ctx context.Context, user, database string) ([]wire.Param, error) {
			return ReadPins(ctx, source, user, database)
		}
	})
	const look = `SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
		WHERE name IN ('work_mem', 'DateStyle', 'enable_seqscan', 'enable_hashjoin', 'ignore_system_indexes', 'geqo', 'TimeZone', 'search_path')`
	list := []string{"", "-S 8MB", "-f s", "-e", "-fh -S9MB", "-eS 8MB", "-P", "--geqo=off", "-c geqo=off -c TimeZone=Asia/Tokyo", `-c search_path="a\ b",\ public`,
		"-c DateStyle=German", "-c datestyle=YMD -e", "-c\tgeqo=off\\", "-c geqo=on --geqo=off"}
	var want []string
	sessions := make([]*raw, len(list))
	for i, options := range list {
		sessions[i] = g.rawDial(t, wire.Param{Name: "options", Value: options})
		want = append(want, sessions[i].sql(look)) // the source has it from the client as it came
		sessions[i].sql("SET work_mem = '3MB'; SET DateStyle = 'ISO, YMD'; SET enable_seqscan = on")
	}
	g.toTarget(t)
	for i, options := range list {
		sessions[i].sql("RESET ALL")
		require.Equal(t, want[i], sessions[i].sql(look), "moved, %q", options)
		late := g.rawDial(t, wire.Param{Name: "options", Value: options})
		require.Equal(t, want[i], late.sql(look), "new, %q", options)
	}
}
