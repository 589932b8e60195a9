package cli

import (
	"fmt"

	"crossfade/internal/demo"
	"crossfade/internal/obs"
	"crossfade/internal/workload"
)

type demoCmd struct {
	Clients  int `help:"Clients that write and read all the time." default:"12"`
	Accounts int `help:"Size of the application: about 31 rows for each account." default:"10000"`
}

// Run plays the demo.
func (c *demoCmd) Run(e *env) error {
	if c.Clients < 1 || c.Accounts < 10 {
		return &exitError{ExitUsage, fmt.Errorf("--clients must be at least 1 and --accounts at least 10")}
	}
	log, err := obs.NewLogger(logFormat(e.format), "warn", e.stderr)
	if err != nil {
		return &exitError{ExitUsage, err}
	}
	watch := newProgress(e.stderr)
	defer watch.close()
	return demo.Run(e.ctx, demo.Config{Clients: c.Clients, Shop: workload.Shop{Accounts: c.Accounts}, Version: Version, Log: log,
		OnCopy: watch.copying, Out: e.stdout})
}
