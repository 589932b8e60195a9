package main

import (
	"fmt"
	"slices"
	"time"

	"crossfade/internal/lab/measure"
)

func (f *field) describe() {
	fmt.Printf("%s; %d rounds, interleaved; fsync %s; load %s\n", measure.Cores(), f.o.rounds, f.o.fsync, measure.Load())
	fmt.Println("Ratios of walls are to the best of the others, those of data phases to psql; RSS is the largest process's of the client side.")
	fmt.Println("CPU is that of the client programs, and of both servers: where the machine has other work, it says more than the walls do.")
	fmt.Printf("\n%-8s %-15s %9s %6s %9s %9s %9s %9s %9s\n", "case", "contender", "median s", "ratio", "least", "most", "CPU s", "servers'", "RSS MiB")
}

// print prints the medians of one case.
func (f *field) print(name string, shots map[string][]shot) {
	best := time.Duration(0)
	for _, other := range []string{before, dumpDir, dumpPipe, pgcopydb} {
		if m := measure.Median(shots[other], wall); len(shots[other]) > 0 && (best == 0 || m < best) {
			best = m
		}
	}
	for _, c := range f.contenders {
		s := shots[c.name]
		if len(s) == 0 {
			continue
		}
		m, ratio, base := measure.Median(s, wall), "-", best
		if c.data {
			base = measure.Median(shots[dataPsql], wall)
		}
		if base > 0 {
			ratio = fmt.Sprintf("%.2f", m.Seconds()/base.Seconds())
		}
		walls := make([]time.Duration, len(s))
		rss := int64(0)
		for i, x := range s {
			walls[i] = x.wall
			rss = max(rss, x.rss)
		}
		fmt.Printf("%-8s %-15s %9.2f %6s %9.2f %9.2f %9.2f %9.2f %9.0f\n", name, c.name, m.Seconds(), ratio, slices.Min(walls).Seconds(), slices.Max(walls).Seconds(),
			measure.Median(s, func(s shot) time.Duration { return s.cpu }).Seconds(),
			measure.Median(s, func(s shot) time.Duration { return s.servers }).Seconds(), float64(rss)/(1<<20))
	}
}

func wall(s shot) time.Duration { return s.wall }
