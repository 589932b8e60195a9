package main

import (
	"fmt"
	"slices"

	"crossfade/internal/lab/measure"
)

func describe(o options) {
	fmt.Printf("%s; %d rounds of %d slices of %s each, interleaved; load %s\n", measure.Cores(), o.rounds, o.slices, o.slice, measure.Load())
	fmt.Println("CPU is that of the proxy's process for each transaction; ratios are to PgBouncer's median.")
	fmt.Printf("\n%-7s %-9s %7s  %-10s %9s %6s %9s %9s %9s %8s\n", "TLS", "mode", "clients", "contender", "tps", "ratio", "p50 us", "p99 us", "added us", "CPU us")
}

// printCase prints the medians of one case.
func printCase(l links, mode string, clients int, contenders []*contender, shots map[string][]shot) {
	reference := measure.Median(shots[pgbouncer], func(s shot) float64 { return s.tps })
	p50 := func(s shot) float64 { return percentile(s.latencies, 50) }
	plain := measure.Median(shots[direct], p50)
	for _, c := range contenders {
		s := shots[c.name]
		tps := measure.Median(s, func(s shot) float64 { return s.tps })
		ratio, added, cpu := "-", "-", "-"
		if reference > 0 {
			ratio = fmt.Sprintf("%.2f", tps/reference)
		}
		if c.cmd != nil {
			cpu = fmt.Sprintf("%.1f", measure.Median(s, func(s shot) float64 { return s.cpu }))
			if plain > 0 {
				added = fmt.Sprintf("%.0f", measure.Median(s, p50)-plain)
			}
		}
		fmt.Printf("%-7s %-9s %7d  %-10s %9.0f %6s %9.0f %9.0f %9s %8s\n", l, mode, clients, c.name, tps, ratio,
			measure.Median(s, p50), measure.Median(s, func(s shot) float64 { return percentile(s.latencies, 99) }), added, cpu)
	}
}

func percentile(v []int32, p int) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return float64(v[min(len(v)-1, len(v)*p/100)])
}

// load finds out whether the machine had other work.
type load struct {
	before string
	spread float64 // greatest ratio of two rounds of the server itself
}

// maxSpread is what two equal rounds differ by on a machine that is left alone.
const maxSpread = 1.2

func newLoad() *load { return &load{before: measure.Load()} }

// note takes in the slices of the server itself, so many in a round.
func (l *load) note(plain []shot, inRound int) {
	var v []float64
	for round := range slices.Chunk(plain, inRound) {
		v = append(v, measure.Median(round, func(s shot) float64 { return s.tps }))
	}
	if len(v) > 1 {
		l.spread = max(l.spread, slices.Max(v)/slices.Min(v))
	}
}

func (l *load) warn() {
	if l.spread > maxSpread {
		fmt.Printf("\nWARNING: the machine has other work: rounds of the same case without a proxy differ by up to %.0f %%. Only ratios of medians mean anything; take more rounds.\n", 100*(l.spread-1))
	}
}
