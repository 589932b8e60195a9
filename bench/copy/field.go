package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/measure"
	"crossfade/internal/lab/pgcluster"
)

// target is the name of the database that is made again for each run.
const target = "copied"

// field is two servers and the contenders that are measured between them.
type field struct {
	o              options
	source, target *pgcluster.Cluster
	dir            string
	contenders     []contender
}

func set(ctx context.Context, o options) (*field, error) {
	f := &field{o: o}
	var err error
	if f.dir, err = os.MkdirTemp("", "crossfade-bench-"); err != nil {
		return nil, err
	}
	settings := map[string]string{"shared_buffers": "256MB", "max_wal_size": "8GB", "min_wal_size": "8GB", "checkpoint_timeout": "30min", "full_page_writes": "on"}
	if f.source, err = pgcluster.Start(ctx, pgcluster.Config{Settings: settings}); err == nil {
		settings["fsync"] = o.fsync
		f.target, err = pgcluster.Start(ctx, pgcluster.Config{Settings: settings})
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	for _, name := range o.contenders {
		c, err := f.contender(name)
		if err != nil && name == pgcopydb {
			fmt.Printf("%s is left out: %v\n", name, err)
			continue
		}
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.contenders = append(f.contenders, c)
	}
	return f, nil
}

func (f *field) close() error {
	errs := []error{os.RemoveAll(f.dir)}
	for _, c := range []*pgcluster.Cluster{f.source, f.target} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// bench runs every case and prints the table.
func bench(ctx context.Context, o options) (err error) {
	f, err := set(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	f.describe()
	for _, name := range o.cases {
		if err := f.fill(ctx, name); err != nil {
			return fmt.Errorf("fill %s: %w", name, err)
		}
		shots, err := f.interleave(ctx, name)
		if err != nil {
			return err
		}
		f.print(name, shots)
	}
	fmt.Printf("\nload at the end %s\n", measure.Load())
	return nil
}

// interleave runs the rounds of one case, each in another order.
func (f *field) interleave(ctx context.Context, name string) (map[string][]shot, error) {
	shots := map[string][]shot{}
	order := slices.Clone(f.contenders)
	// The first reader of new tables and the first writer of a new cluster pay for hint bits
	// and for new segments of WAL: that run is not counted.
	if _, err := f.shoot(ctx, order[0], name); err != nil {
		return nil, fmt.Errorf("warm up with %s: %w", order[0].name, err)
	}
	for range f.o.rounds {
		for _, c := range order {
			if c.data && name == small {
				continue
			}
			s, err := f.shoot(ctx, c, name)
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", c.name, name, err)
			}
			shots[c.name] = append(shots[c.name], s)
		}
		order = append(order[1:], order[0])
	}
	return shots, nil
}

// shoot makes the target's database again, runs the contender, and makes sure that
// every row has arrived.
func (f *field) shoot(ctx context.Context, c contender, name string) (shot, error) {
	admin := f.target.AdminDSN("postgres")
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + target + " WITH (FORCE)", "CREATE DATABASE " + target, "CHECKPOINT"} {
		if err := execute(ctx, admin, sql); err != nil {
			return shot{}, err
		}
	}
	if c.data {
		if err := f.preData(ctx, name); err != nil {
			return shot{}, err
		}
	}
	syscall.Sync() // what earlier runs have left to write is not this one's either
	before := ticks(f.source) + ticks(f.target)
	s, err := c.run(ctx, f.source.AdminDSN(name), f.target.AdminDSN(target))
	if err != nil {
		return shot{}, err
	}
	if err := f.alone(ctx); err != nil {
		return shot{}, err
	}
	s.servers = time.Duration(ticks(f.source)+ticks(f.target)-before) * (time.Second / ticksPerSecond)
	return s, f.compare(ctx, name)
}

// alone waits until the contender's sessions have ended, so that their time counts.
func (f *field) alone(ctx context.Context) error {
	for _, c := range []*pgcluster.Cluster{f.source, f.target} {
		conn, err := pg.Connect(ctx, c.AdminDSN("postgres"))
		if err != nil {
			return err
		}
		for n := 1; n > 0 && err == nil; {
			err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&n)
		}
		_ = conn.Close(ctx)
		if err != nil {
			return fmt.Errorf("wait for sessions to end: %w", err)
		}
	}
	return nil
}

const ticksPerSecond = 100

// ticks is the CPU time of a server and of its processes that have ended.
func ticks(c *pgcluster.Cluster) (sum int) {
	pid, err := os.ReadFile(filepath.Join(c.Dir(), "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	b, err := os.ReadFile("/proc/" + first + "/stat")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ")
	for i, field := range strings.Fields(after) {
		if i >= 11 && i < 15 { // utime, stime, and those of its children
			n, _ := strconv.Atoi(field)
			sum += n
		}
	}
	return sum
}

// preData makes the tables on the target, without indexes.
func (f *field) preData(ctx context.Context, name string) error {
	script := fmt.Sprintf("%s --section=pre-data -d '%s' | %s -q -X -v ON_ERROR_STOP=1 -o /dev/null -d '%s'",
		f.path("pg_dump"), uri(f.source.AdminDSN(name)), f.path("psql"), uri(f.target.AdminDSN(target)))
	_, err := timed(exec.CommandContext(ctx, "sh", "-c", script))
	return err
}

const countAll = `SELECT string_agg(format('SELECT %L || count(*) FROM %I.%I', c.relname || ' ', n.nspname, c.relname), ' UNION ALL ' ORDER BY c.relname)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname = 'public'`

// compare counts the rows of every table on both sides.
func (f *field) compare(ctx context.Context, name string) error {
	var counts [2][]string
	for i, dsn := range []pg.DSN{f.source.AdminDSN(name), f.target.AdminDSN(target)} {
		conn, err := pg.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		var sql string
		err = conn.QueryRow(ctx, countAll).Scan(&sql)
		var rows pgx.Rows
		if err == nil {
			rows, err = conn.Query(ctx, sql)
		}
		if err == nil {
			counts[i], err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		_ = conn.Close(ctx)
		if err != nil {
			return fmt.Errorf("count rows: %w", err)
		}
	}
	slices.Sort(counts[0])
	slices.Sort(counts[1])
	for i, have := range counts[0] {
		if len(counts[0]) != len(counts[1]) || have != counts[1][i] {
			return fmt.Errorf("the target has not all rows: of %d tables %d are there, and the source has %s", len(counts[0]), len(counts[1]), have)
		}
	}
	return nil
}

func (f *field) path(program string) string { return f.source.Binaries().Path(program) }

func execute(ctx context.Context, dsn pg.DSN, sql string) error {
	conn, err := pg.Connect(ctx, dsn, pg.WithParam("search_path", "public"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := pg.Exec(ctx, conn, sql); err != nil {
		return fmt.Errorf("%.60s: %w", sql, err)
	}
	return nil
}

// uri writes a connection string that every program takes.
func uri(dsn pg.DSN) string {
	return fmt.Sprintf("postgresql://%s:%s@%s:%d/%s?sslmode=disable&gssencmode=disable", dsn.User(), strings.TrimSpace(dsn.Password()), dsn.Host(), dsn.Port(), dsn.Database())
}
