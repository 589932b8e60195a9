package cli

import (
	"encoding/json"
	"fmt"

	"crossfade/internal/app/control"
)

type limitsCmd struct {
	socketFlag
	JSON      bool        `help:"Print one JSON object."`
	MaxRate   *sizeFlag   `help:"Limit of the copy in bytes per second, such as 20M, or none." placeholder:"RATE"`
	WALBudget *budgetFlag `help:"Limit of the WAL that the source keeps for the migration, such as 50G, or auto, or none." name:"wal-budget" placeholder:"SIZE"`
}

// Run sets the limits that are named, and prints those that hold.
func (c *limitsCmd) Run(e *env) error {
	change := control.LimitsChange{MaxRateBytes: (*int64)(c.MaxRate), WALBudgetBytes: (*int64)(c.WALBudget)}
	client := control.NewClient(c.Control)
	ask := func() (control.Limits, error) { return client.SetLimits(e.ctx, change) }
	if change == (control.LimitsChange{}) {
		ask = func() (control.Limits, error) { return client.Limits(e.ctx) }
	}
	l, err := ask()
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(l)
	}
	_, err = fmt.Fprintf(e.stdout, "max-rate %s | wal-budget %s\n", boundText(l.MaxRateBytes, "/s"), boundText(l.WALBudgetBytes, ""))
	return err
}

// boundText writes a bound in bytes; 0 means none.
func boundText(n int64, unit string) string {
	if n == 0 {
		return "none"
	}
	return bytesText(n) + unit
}
