package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"crossfade/internal/pgcluster"
)

// field is the server and everybody that stands before it.
type field struct {
	cluster    *pgcluster.Cluster
	dir        string
	bench      pgbench
	contenders []*contender
}

// set starts the server and the contenders. A contender that cannot be had is
// passed over with a message.
func set(ctx context.Context, o options) (*field, error) {
	cluster, err := pgcluster.Start(ctx, pgcluster.Config{
		HBA:      []string{"host all all 127.0.0.1/32 trust"},
		Settings: map[string]string{"max_connections": fmt.Sprint(max(o.sessions, slices.Max(o.clients)*len(o.contenders)) + 100), "shared_buffers": "256MB", "autovacuum": "off"},
	})
	if err != nil {
		return nil, err
	}
	f := &field{cluster: cluster}
	f.dir, err = os.MkdirTemp("", "crossfade-bench-")
	if err == nil {
		err = os.Chmod(f.dir, 0o755) // an unprivileged user reads its configuration here
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.bench = pgbench{bin: cluster.Binaries(), dir: f.dir}
	for _, name := range o.contenders {
		c, err := start(ctx, name, f.dir, cluster.Port(), o)
		if err != nil && (name == pgbouncer || name == haproxy) && ctx.Err() == nil {
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
	for _, c := range f.contenders {
		c.stop()
	}
	return errors.Join(f.cluster.Close(), os.RemoveAll(f.dir))
}

// bench runs every case and prints the table.
func bench(ctx context.Context, o options) (err error) {
	f, err := set(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.bench.fill(ctx, f.cluster.Port(), o.scale); err != nil {
		return err
	}
	describe(o)
	load := newLoad()
	for _, mode := range o.modes {
		for _, clients := range o.clients {
			shots, err := f.interleave(ctx, o, mode, clients)
			if err != nil {
				return err
			}
			printCase(mode, clients, f.contenders, shots)
			load.note(shots[direct], o.slices)
		}
	}
	load.warn()
	return nil
}

// interleave runs the rounds of one case. Each has server processes of its own, and
// slices in which one contender after the other has the machine, each time in another
// order: whatever else the machine does for longer than a second meets all of them.
func (f *field) interleave(ctx context.Context, o options, mode string, clients int) (map[string][]shot, error) {
	shots := map[string][]shot{}
	for range o.rounds {
		if err := f.round(ctx, o, mode, clients, shots); err != nil {
			return nil, err
		}
	}
	return shots, nil
}

func (f *field) round(ctx context.Context, o options, mode string, clients int, shots map[string][]shot) error {
	var runners []*runner
	defer func() {
		for _, r := range runners {
			r.close()
		}
	}()
	for _, c := range f.contenders {
		r, err := f.bench.run(ctx, c, mode, clients)
		if err != nil {
			return err
		}
		runners = append(runners, r)
	}
	order := slices.Clone(runners)
	for i := range o.slices + 1 {
		for _, r := range order {
			if err := r.slice(ctx, o.slice, i < o.slices); err != nil {
				return err
			}
		}
		order = append(order[1:], order[0])
	}
	for _, r := range runners {
		s, err := r.shots()
		if err != nil {
			return err
		}
		shots[r.c.name] = append(shots[r.c.name], s...)
	}
	return nil
}
