package daemon

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/machine"
)

// reloadPatience bounds the reading of the settings of users that have come with a new users file.
const reloadPatience = 30 * time.Second

// reload reads the users file again whenever the operator asks for it. Sessions continue; if a file
// cannot be used, the one before remains in force.
func (d *daemon) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.core.cfg.Reload:
		}
		n, err := d.core.users.Read()
		if err != nil {
			d.core.log.Error().Err(err).Msg("users file not taken over; the one before stays in force")
			continue
		}
		d.core.log.Info().Int("users", n).Msg("users file taken over")
		if d.core.coordinator.Status().Active == machine.SideSource {
			continue // every cutover reads the settings of all, first of all
		}
		bounded, cancel := context.WithTimeout(ctx, reloadPatience)
		err = d.sessions.marking.Do(bounded, func(ctx context.Context, conn *pgx.Conn) error { return d.core.users.PinMissing(ctx, conn, d.core.log) })
		cancel()
		if err != nil && ctx.Err() == nil {
			d.core.log.Warn().Err(err).Msg("settings of new users cannot be read from the source; their sessions have the target's own")
		}
	}
}
