package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"crossfade/internal/app/options"
)

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
