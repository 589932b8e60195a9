package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/netfault"
	"crossfade/internal/lab/pgcluster"
	"crossfade/replicate/copy"
)

// workload is a set of tables: groups of so many tables of so many bytes each.
type workload struct {
	name   string
	groups []group
}

type group struct{ tables, bytes int }

func cases(mb int) []workload {
	all := mb * 1_000_000
	return []workload{
		{"one table", []group{{1, all}}},
		{"four tables", []group{{4, all / 4}}},
		{"half in one table, half in 60", []group{{1, all / 2}, {60, all / 2 / 60}}},
		{"200 small tables", []group{{200, all / 200}}},
	}
}

// sides are two clusters, and a database for each case.
type sides struct {
	source, target *pgcluster.Cluster
}

func open(ctx context.Context) (*sides, error) {
	source, err := pgcluster.Start(ctx, pgcluster.Config{})
	if err != nil {
		return nil, err
	}
	target, err := pgcluster.Start(ctx, pgcluster.Config{})
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return &sides{source, target}, nil
}

func (s *sides) close() {
	_ = s.source.Close()
	_ = s.target.Close()
}

type result struct {
	tables int
	bytes  int64
	time   time.Duration
	full   float64
}

// measure copies one case over the line.
func (s *sides) measure(ctx context.Context, o options, c workload) (result, error) {
	source, target, err := s.fill(ctx, c)
	if err != nil {
		return result{}, err
	}
	relay, err := netfault.Listen(netfault.Config{Target: net.JoinHostPort(s.target.Host(), strconv.Itoa(s.target.Port()))})
	if err != nil {
		return result{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	defer func() {
		stop()
		<-ended
	}()
	rate := int(o.mbit * 1e6 / 8)
	for _, d := range []netfault.Direction{netfault.ToServer, netfault.ToClient} {
		relay.Shape(d, netfault.Shape{Delay: o.rtt / 2, Shared: rate, Loss: o.loss})
	}
	far, err := behind(target, relay)
	if err != nil {
		return result{}, err
	}
	tables, err := list(ctx, source)
	if err != nil {
		return result{}, err
	}
	cp, err := copy.New(copy.Config{
		Source: func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, source) },
		Target: func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, far) },
		Tables: tables, Jobs: o.jobs, Log: zerolog.Nop(),
	})
	if err != nil {
		return result{}, err
	}
	begin := time.Now()
	if err := cp.Run(ctx); err != nil {
		return result{}, err
	}
	r := result{tables: len(tables), bytes: relay.Passed(netfault.ToServer), time: time.Since(begin)}
	r.full = float64(r.bytes) / (float64(rate) * r.time.Seconds())
	return r, nil
}

// behind is the database as it is reached through the relay.
func behind(d pg.DSN, relay *netfault.Relay) (pg.DSN, error) {
	return pg.ParseDSN(fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=disable", relay.Addr().Port, d.User(), d.Password(), d.Database()))
}

// fill makes a database on each side, and the rows on the source.
func (s *sides) fill(ctx context.Context, c workload) (source, target pg.DSN, err error) {
	name := fmt.Sprintf("b%d", time.Now().UnixNano())
	for _, side := range []*pgcluster.Cluster{s.source, s.target} {
		admin, err := pg.Connect(ctx, side.AdminDSN("postgres"))
		if err != nil {
			return source, target, err
		}
		_, err = admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0")
		if err = errors.Join(err, admin.Close(ctx)); err != nil {
			return source, target, err
		}
	}
	source, target = s.source.AdminDSN(name), s.target.AdminDSN(name)
	var ddl, rows string
	n := 0
	for _, g := range c.groups {
		for range g.tables {
			n++
			ddl += fmt.Sprintf("CREATE TABLE public.t%d (id int, pad text);", n)
			rows += fmt.Sprintf("INSERT INTO public.t%d SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, %d) i;", n, max(1, g.bytes/168))
		}
	}
	if err := exec(ctx, source, ddl+rows+"CHECKPOINT"); err != nil {
		return source, target, err
	}
	return source, target, exec(ctx, target, journal.TargetDDL+";"+ddl)
}

func exec(ctx context.Context, d pg.DSN, sql string) error {
	conn, err := pg.Connect(ctx, d)
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// list names the tables as the daemon does.
func list(ctx context.Context, d pg.DSN) ([]copy.Table, error) {
	conn, err := pg.Connect(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT oid, relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (copy.Table, error) {
		t := copy.Table{Name: pg.Name{Schema: "public"}, Columns: []string{"id", "pad"}}
		err := row.Scan(&t.OID, &t.Name.Name)
		return t, err
	})
}
