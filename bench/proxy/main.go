// Command proxy measures Crossfade's proxy against PgBouncer in session mode and
// HAProxy in TCP mode, and against no proxy at all, with pgbench -S on this machine.
//
// It starts a PostgreSQL of its own and everything that stands before it. All
// contenders have their pgbench at the same time, of which one runs, in slices of half
// a second and in rotating order, and the others are stopped, so that whatever else the
// machine does hits all of them: the ratios mean something where the figures do not.
// Run it by make bench-proxy; make bench-proxy-idle has the memory of idle sessions.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"crossfade/internal/lab/measure"
)

type options struct {
	rounds     int
	slices     int
	slice      time.Duration
	clients    []int
	modes      []string
	contenders []string
	before     string
	scale      int
	turns      int
	idle       bool
	sessions   int
	profile    string
	engine     string
	pooled     bool
	links      []links
}

func main() { os.Exit(measure.Main("bench/proxy", run)) }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == serveCommand {
		return serve(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == idleCommand {
		return holdIdle(ctx, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.idle {
		return benchIdle(ctx, o)
	}
	if o.turns > 0 {
		return benchTurns(ctx, o)
	}
	return bench(ctx, o)
}

func parse(args []string) (options, error) {
	o := options{}
	var clients, modes, contenders, encrypted string
	f := flag.NewFlagSet("bench/proxy", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "rounds of each case, with new server processes each")
	f.IntVar(&o.slices, "slices", 8, "slices of each contender in a round")
	f.DurationVar(&o.slice, "slice", 500*time.Millisecond, "length of a slice")
	f.StringVar(&clients, "clients", "1,16,64", "numbers of clients")
	f.StringVar(&modes, "modes", "simple,extended,prepared", "query modes of pgbench")
	f.StringVar(&o.before, "before", "", "an earlier build of this benchmark, whose proxy is measured too")
	f.StringVar(&contenders, "contenders", strings.Join(contenderNames(), ","), "who is measured")
	f.IntVar(&o.scale, "scale", 10, "scale of pgbench's tables")
	f.IntVar(&o.turns, "turns", 0, "measure one client instead, which takes so many turns through each contender")
	f.BoolVar(&o.idle, "idle", false, "measure the memory of idle sessions instead")
	f.IntVar(&o.sessions, "sessions", 1000, "idle sessions")
	f.StringVar(&o.profile, "profile", "", "file that gets a CPU profile of Crossfade's proxy")
	f.StringVar(&o.engine, "engine", "on", "engine of Crossfade's proxy, on or off")
	f.StringVar(&encrypted, "tls", "none,server,both", "what is encrypted: none, client, server (as after a switch to Neon), both")
	f.BoolVar(&o.pooled, "pooled", false, "let PgBouncer keep server connections, which are warm then, from one run to the next")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	for _, s := range strings.Split(clients, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return o, fmt.Errorf("-clients: %q is no number of clients", s)
		}
		o.clients = append(o.clients, n)
	}
	for _, s := range strings.Split(encrypted, ",") {
		l, ok := map[string]links{"none": {}, "client": {client: true}, "server": {server: true}, "both": {client: true, server: true}}[s]
		if !ok {
			return o, fmt.Errorf("-tls: %q is not none, client, server or both", s)
		}
		o.links = append(o.links, l)
	}
	o.modes, o.contenders = strings.Split(modes, ","), strings.Split(contenders, ",")
	if o.before != "" {
		o.contenders = append(o.contenders, before)
	}
	if o.rounds < 1 || o.slices < 1 || o.slice < 100*time.Millisecond {
		return o, errors.New("at least one round with a slice of at least 100 ms is needed")
	}
	return o, nil
}
