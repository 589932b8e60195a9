package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"crossfade/internal/app/control"
	"crossfade/internal/app/options"
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

// sizeFlag is a number of bytes: digits with an optional fraction and one of k, M,
// G and T, each 1024 of the one before; none is 0.
type sizeFlag int64

// UnmarshalText reads a size.
func (s *sizeFlag) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	*s = sizeFlag(n)
	return err
}

// budgetFlag is a size, or auto.
type budgetFlag int64

// UnmarshalText reads a budget.
func (b *budgetFlag) UnmarshalText(text []byte) error {
	if string(text) == "auto" {
		*b = options.AutoBudget
		return nil
	}
	n, err := parseSize(string(text))
	*b = budgetFlag(n)
	return err
}

func parseSize(s string) (int64, error) {
	if s == "none" {
		return 0, nil
	}
	number, unit := strings.TrimRight(s, "kKMGTiB"), 1.0
	switch suffix := strings.TrimSuffix(strings.TrimSuffix(s[len(number):], "B"), "i"); suffix {
	case "":
	case "k", "K":
		unit = 1 << 10
	case "M":
		unit = 1 << 20
	case "G":
		unit = 1 << 30
	case "T":
		unit = 1 << 40
	default:
		number = ""
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v >= 0) || v*unit > math.MaxInt64/2 || strings.ContainsAny(number, "xXpPeE_") {
		return 0, fmt.Errorf("%q is no size: write bytes, or a number with k, M, G or T, such as 20M, or none", s)
	}
	return int64(v * unit), nil
}
