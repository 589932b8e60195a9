package main

import (
	"fmt"

	"crossfade/internal/lab/measure"
)

func describe(o options) {
	fmt.Printf("%s; %d rounds, interleaved; %d transactions to apply; cutover with %d clients; load %s\n",
		measure.Cores(), o.rounds, o.transactions, o.clients, measure.Load())
	fmt.Printf("\n%-10s %14s %10s %12s %12s %12s %12s\n", "program", "applied tx/s", "ratio", "pause ms", "ratio", "held p99 ms", "held max ms")
}

// show prints medians. Ratios are to the last program, the one before.
func show(programs []program, figures map[string][]figure) {
	last := figures[programs[len(programs)-1].name]
	for _, p := range programs {
		f := figures[p.name]
		of := func(get func(figure) float64) (float64, float64) {
			m, base := measure.Median(f, get), measure.Median(last, get)
			if base == 0 {
				return m, 0
			}
			return m, m / base
		}
		rate, rateRatio := of(func(f figure) float64 { return f.applied })
		pause, pauseRatio := of(func(f figure) float64 { return f.pause })
		fmt.Printf("%-10s %14.0f %10.2f %12.0f %12.2f %12.0f %12.0f\n", p.name, rate, rateRatio, pause, pauseRatio,
			measure.Median(f, func(f figure) float64 { return f.heldP99 }), measure.Median(f, func(f figure) float64 { return f.heldMax }))
	}
}

// showSteps prints when each step of the cutover was done: the median of the measurements
// that have the step, since the gate was asked to close.
func showSteps(programs []program, figures map[string][]figure) {
	at := map[string]map[string][]float64{} // by step and program
	var order []string
	for _, p := range programs {
		for _, f := range figures[p.name] {
			for _, s := range f.steps {
				if at[s.name] == nil {
					at[s.name], order = map[string][]float64{}, append(order, s.name)
				}
				at[s.name][p.name] = append(at[s.name][p.name], s.at)
			}
		}
	}
	fmt.Printf("\n%-24s", "done at, ms")
	for _, p := range programs {
		fmt.Printf(" %12s", p.name)
	}
	fmt.Println()
	for _, name := range order {
		fmt.Printf("%-24s", name)
		for _, p := range programs {
			if v := at[name][p.name]; len(v) > 0 {
				fmt.Printf(" %12.1f", measure.Median(v, func(at float64) float64 { return at }))
			} else {
				fmt.Printf(" %12s", "-")
			}
		}
		fmt.Println()
	}
}
