// Command follow measures how fast `crossfade run` applies a backlog of changes,
// and how long the clients of a cutover wait, with one program or with two of them, such
// as the one before a change and the one after it.
//
// Each measurement has two new clusters, a source and a target that behaves as Neon.
// Rounds are interleaved: whatever else the machine does hits both programs. Run it
// by make bench-follow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"crossfade/internal/lab/measure"
)

type options struct {
	rounds       int
	scale        int
	transactions int
	clients      int
	seconds      int
	binary       string
	before       string
	steps        bool
}

func main() { os.Exit(measure.Main("bench/follow", run)) }

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	return bench(ctx, o)
}

func parse(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("bench/follow", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "measurements of each program")
	f.IntVar(&o.scale, "scale", 10, "scale of pgbench's tables")
	f.IntVar(&o.transactions, "transactions", 40_000, "transactions of pgbench that are applied at a stretch")
	f.IntVar(&o.clients, "clients", 16, "clients of pgbench in the cutover")
	f.IntVar(&o.seconds, "seconds", 8, "how long these write, with the cutover amid it")
	f.StringVar(&o.binary, "crossfade", "bin/crossfade", "the program")
	f.StringVar(&o.before, "before", "", "another program to compare with")
	f.BoolVar(&o.steps, "steps", false, "print when each step of the cutover was done, too")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.scale < 1 || o.clients < 1 || o.transactions < o.clients || o.seconds < 4 {
		return o, errors.New("at least one round, one client, 4 seconds and a transaction for each client are needed")
	}
	return o, nil
}

// bench runs the rounds and prints the medians.
func bench(ctx context.Context, o options) error {
	programs := []program{{name: "crossfade", path: o.binary}}
	if o.before != "" {
		programs = append(programs, program{name: "before", path: o.before})
	}
	describe(o)
	figures := map[string][]figure{}
	for round := range o.rounds {
		for i := range programs {
			p := programs[(i+round)%len(programs)]
			f, err := measureOne(ctx, o, p)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", p.name, round+1, err)
			}
			figures[p.name] = append(figures[p.name], f)
		}
	}
	show(programs, figures)
	if o.steps {
		showSteps(programs, figures)
	}
	return nil
}
