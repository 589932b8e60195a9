package daemon

import (
	"github.com/rs/zerolog"

	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/base/pg"
)

// bare is a daemon without databases, of which a test sets what it needs.
func bare(set func(d *daemon)) *daemon {
	nowhere, err := pg.ParseDSN("postgresql://nobody@127.0.0.1:1/nowhere")
	if err != nil {
		panic(err)
	}
	d := newDaemon(options.Run{Source: nowhere, Target: nowhere}, zerolog.Nop())
	d.core.migration = migration.New(migration.Config{})
	set(d)
	return d
}
