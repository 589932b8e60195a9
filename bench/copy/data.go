package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/measure"
	"crossfade/replicate/copy"
	"crossfade/schema/catalog"
)

// dataCommand has this program be Crossfade's copy of rows and nothing else.
const dataCommand = "data"

// sampleBytes is the size from which psql gets a table in as many parts as it
// has streams.
const sampleBytes = 8 << 20

func (f *field) dataCrossfade(ctx context.Context, source, target pg.DSN) (shot, error) {
	self, err := os.Executable()
	if err != nil {
		return shot{}, err
	}
	return timed(exec.CommandContext(ctx, self, dataCommand, "-source", uri(source), "-target", uri(target), "-streams", strconv.Itoa(f.o.streams), "-profile", f.o.profile, "-buffer", strconv.Itoa(f.o.buffer)))
}

// copyData copies the rows of all tables, which are there on both sides.
func copyData(ctx context.Context, args []string) error {
	f := flag.NewFlagSet(dataCommand, flag.ContinueOnError)
	source := f.String("source", "", "connection string")
	target := f.String("target", "", "connection string")
	streams := f.Int("streams", 2, "jobs")
	buffer := f.Int("buffer", 0, "bytes of a buffer; 0 for the default")
	profile := f.String("profile", "", "file for a CPU profile")
	if err := f.Parse(args); err != nil {
		return err
	}
	from, err := pg.ParseDSN(*source)
	if err != nil {
		return err
	}
	to, err := pg.ParseDSN(*target)
	if err != nil {
		return err
	}
	stop, err := measure.Profile(*profile)
	if err != nil {
		return err
	}
	defer stop()
	tables, _, err := list(ctx, from)
	if err != nil {
		return err
	}
	if err := execute(ctx, to, journal.TargetDDL); err != nil {
		return err
	}
	c, err := copy.New(copy.Config{Source: connector(from), Target: connector(to), Tables: tables, Jobs: *streams, BufferBytes: *buffer, Log: zerolog.New(os.Stderr)})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

func connector(dsn pg.DSN) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn) }
}

// list reads what is to be copied, and the blocks of each table.
func list(ctx context.Context, source pg.DSN) (tables []copy.Table, blocks []int64, err error) {
	conn, err := pg.Connect(ctx, source)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(ctx)
	db, err := catalog.Read(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range db.Relations {
		tables = append(tables, copy.Table{OID: r.OID, Name: r.Name(), Columns: r.CopyColumns(), Binary: true})
		blocks = append(blocks, r.Pages)
	}
	return tables, blocks, nil
}

// dataPsql runs the streams side by side, each with an equal part of every larger
// table, and each of the smaller ones in the first.
func (f *field) dataPsql(ctx context.Context, source, target pg.DSN) (shot, error) {
	tables, blocks, err := list(ctx, source)
	if err != nil {
		return shot{}, err
	}
	scripts := make([]strings.Builder, f.o.streams)
	for i, t := range tables {
		n := int64(f.o.streams)
		if blocks[i]*8192 < sampleBytes {
			n = 1
		}
		for s := range n {
			out := "COPY " + t.Name.String() + " TO STDOUT (FORMAT binary)"
			if n > 1 {
				out = fmt.Sprintf("COPY (SELECT * FROM %s WHERE ctid >= '(%d,0)' AND ctid < '(%d,0)') TO STDOUT (FORMAT binary)", t.Name, blocks[i]*s/n, blocks[i]*(s+1)/n+s/(n-1))
			}
			fmt.Fprintf(&scripts[s], "%s -q -X -d '%s' -c %s | %s -q -X -d '%s' -c %s || exit 1\n", f.path("psql"), uri(source), quoted(out),
				f.path("psql"), uri(target), quoted("COPY "+t.Name.String()+" FROM STDIN (FORMAT binary)"))
		}
	}
	var wait sync.WaitGroup
	errs := make([]error, len(scripts))
	shots := make([]shot, len(scripts))
	began := time.Now()
	for i := range scripts {
		wait.Go(func() { shots[i], errs[i] = timed(exec.CommandContext(ctx, "sh", "-c", scripts[i].String())) })
	}
	wait.Wait()
	all := shot{wall: time.Since(began)}
	for i, s := range shots {
		if errs[i] != nil {
			return all, errs[i]
		}
		all.cpu += s.cpu
		all.rss = max(all.rss, s.rss)
	}
	return all, nil
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
