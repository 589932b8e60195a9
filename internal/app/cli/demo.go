package cli

import (
	"fmt"

	"github.com/rs/zerolog"

	"crossfade/internal/lab/demo"
	"crossfade/internal/lab/workload"
)

type demoCmd struct {
	Clients  int `help:"Number of clients, which read and write all the time." default:"12"`
	Accounts int `help:"Size of the application's data, in accounts of about 31 rows each." default:"10000"`
}

// Run plays the demo.
func (c *demoCmd) Run(e *env) error {
	if c.Clients < 1 || c.Accounts < 10 {
		return &exitError{ExitUsage, fmt.Errorf("--clients must be at least 1 and --accounts at least 10")}
	}
	log, err := e.logger()
	if err != nil {
		return err
	}
	watch := newProgress(e)
	defer watch.close()
	return demo.Run(e.ctx, demo.Config{Clients: c.Clients, Shop: workload.Shop{Accounts: c.Accounts}, Version: Version, Log: log.Level(zerolog.WarnLevel),
		OnCopy: watch.copying, Out: e.stdout})
}
