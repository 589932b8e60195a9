// Command link measures how full a copy keeps the line between the daemon and the
// target: two PostgreSQL clusters of its own on this machine, and between the copy and
// the target internal/lab/netfault with a round-trip time and a bandwidth that all
// connections share. Run it by make bench-link.
//
// What is counted are all bytes that went to the target, from the first login to the
// last commit, against those that the line could have taken in that time. The machine
// must be able to copy several times faster than the line; what it does besides
// matters little then.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"crossfade/internal/lab/measure"
)

type options struct {
	rtt  time.Duration
	mbit float64
	loss float64
	jobs int
	mb   int
	only string
}

func main() { os.Exit(measure.Main("bench/link", run)) }

func run(ctx context.Context, args []string) error {
	o := options{}
	f := flag.NewFlagSet("bench/link", flag.ContinueOnError)
	f.DurationVar(&o.rtt, "rtt", 80*time.Millisecond, "round-trip time of the line")
	f.Float64Var(&o.mbit, "mbit", 20, "bandwidth of the line, in million bits a second")
	f.Float64Var(&o.loss, "loss", 0, "share of segments that are lost, from 0 to 1")
	f.IntVar(&o.jobs, "jobs", 4, "COPY streams at once")
	f.IntVar(&o.mb, "mb", 150, "million bytes in each case")
	f.StringVar(&o.only, "case", "", "only the case of this name")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.mbit <= 0 || o.jobs < 1 || o.mb < 1 {
		return errors.New("-mbit, -jobs and -mb must be above 0")
	}
	s, err := open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	fmt.Printf("line of %v Mbit/s, round trip %v, loss %v; %d jobs\n\n", o.mbit, o.rtt, o.loss, o.jobs)
	fmt.Printf("%-34s %8s %8s %8s %8s\n", "case", "tables", "MB", "seconds", "line full")
	for _, c := range cases(o.mb) {
		if o.only != "" && o.only != c.name {
			continue
		}
		r, err := s.measure(ctx, o, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Printf("%-34s %8d %8.1f %8.1f %7.1f %%\n", c.name, r.tables, float64(r.bytes)/1e6, r.time.Seconds(), 100*r.full)
	}
	return nil
}
