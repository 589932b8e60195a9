// Command copy measures `crossfade copy` against pg_dump with pg_restore, by way
// of a directory and of a pipe, and against pgcopydb, and its data phase against
// psql, on this machine.
//
// It starts two PostgreSQL servers of its own. Rounds are interleaved, the
// contenders in rotating order, so that whatever else the machine does hits all
// of them: the ratios mean something where the figures do not. Run it by make
// bench-copy.
package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"strings"

	"crossfade/internal/lab/measure"
)

type options struct {
	rounds     int
	cases      []string
	contenders []string
	scale      int
	tables     int
	rows       int
	wide       int
	jobs       int
	streams    int
	fsync      string
	binary     string
	before     string
	pgcopydb   []string
	profile    string
	buffer     int
}

func main() { os.Exit(measure.Main("bench/copy", run)) }

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == dataCommand {
		return copyData(ctx, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return bench(ctx, o)
}

func parse(args []string) (options, error) {
	o := options{}
	var cases, contenders, pgcopydb string
	f := flag.NewFlagSet("bench/copy", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 3, "runs of each contender in each case")
	f.StringVar(&cases, "cases", strings.Join(caseNames(), ","), "what is copied")
	f.StringVar(&contenders, "contenders", strings.Join(contenderNames(), ","), "who is measured")
	f.IntVar(&o.scale, "scale", 100, "scale of pgbench's tables")
	f.IntVar(&o.tables, "tables", 200, "number of small tables")
	f.IntVar(&o.rows, "rows", 1000, "rows of each small table")
	f.IntVar(&o.wide, "wide", 250_000, "rows of the wide table, of 3 KiB or so")
	f.IntVar(&o.jobs, "jobs", 0, "Crossfade's --jobs; 0 for its default")
	f.IntVar(&o.streams, "streams", 2, "COPY streams of the data phase")
	f.StringVar(&o.fsync, "fsync", "on", "fsync of the target, on or off")
	f.StringVar(&o.binary, "crossfade", "bin/crossfade", "the program")
	f.StringVar(&o.before, "before", "", "an earlier program of Crossfade, to compare with")
	f.StringVar(&pgcopydb, "pgcopydb", "pgcopydb", "pgcopydb, or a command that leads to it")
	f.StringVar(&o.profile, "profile", "", "file that gets a CPU profile of Crossfade's data phase")
	f.IntVar(&o.buffer, "buffer", 0, "bytes of a buffer in Crossfade's data phase; 0 for its default")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.cases, o.contenders, o.pgcopydb = strings.Split(cases, ","), strings.Split(contenders, ","), strings.Fields(pgcopydb)
	if o.before != "" {
		o.contenders = append(o.contenders, before)
	}
	if o.rounds < 1 || o.streams < 1 || o.scale < 1 || o.tables < 1 || o.rows < 1 || o.wide < 1 {
		return o, errors.New("every number must be at least 1")
	}
	return o, nil
}
