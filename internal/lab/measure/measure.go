// Package measure is what the benchmarks in bench share: their main function, the machine that they
// run on, medians, and CPU profiles. Their figures are medians of interleaved rounds.
package measure

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
)

// Main runs a benchmark with the program's arguments, until it ends or is interrupted, prints its
// error, and returns the status to exit with.
func Main(name string, run func(ctx context.Context, args []string) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// Cores says how many cores the machine has, and of what kind.
func Cores() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "model name"); ok {
			return fmt.Sprintf("%d cores, %s", runtime.NumCPU(), strings.Trim(v, " \t:\n"))
		}
	}
	return fmt.Sprintf("%d cores, %s", runtime.NumCPU(), runtime.GOARCH)
}

// Load is the load average of the last 1, 5 and 15 minutes.
func Load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// Number is what a median is taken of.
type Number interface {
	cmp.Ordered
	~int | ~int64 | ~float64
}

// Median returns the median of a figure of each of a list, 0 for an empty one.
func Median[S any, N Number](list []S, figure func(S) N) N {
	v := make([]N, 0, len(list))
	for _, s := range list {
		v = append(v, figure(s))
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// Profile writes a CPU profile to a file until stop is called; without a path it does nothing.
func Profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}
