package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
)

// field is the server and all contenders in front of it.
type field struct {
	cluster    *pgcluster.Cluster
	dir        string
	bench      pgbench
	contenders []*contender
	cert, key  string // files of the server and of proxies, for TLS
}

// links says which connections are encrypted: those of the clients, those to the server.
type links struct{ client, server bool }

func (l links) String() string {
	switch {
	case l.client && l.server:
		return "both"
	case l.client:
		return "client"
	case l.server:
		return "server"
	}
	return "none"
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
	if f.cert, f.key, err = certificate(f.dir); err == nil {
		err = f.encrypt(ctx)
	}
	if err == nil {
		err = f.openKey()
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// encrypt lets clients of the server use TLS.
func (f *field) encrypt(ctx context.Context) error {
	statements := []string{"ALTER SYSTEM SET ssl = on"}
	for setting, file := range map[string]string{"ssl_cert_file": f.cert, "ssl_key_file": f.key} {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		path, err := f.cluster.WriteFile(filepath.Base(file), content, 0o600)
		if err != nil {
			return err
		}
		statements = append(statements, fmt.Sprintf("ALTER SYSTEM SET %s = %s", setting, pg.QuoteLiteral(path)))
	}
	conn, err := pg.Connect(ctx, f.cluster.AdminDSN("postgres"), pg.WithName("bench"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, s := range append(statements, "SELECT pg_reload_conf()") {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// openKey writes the key once more for PgBouncer, which runs as an unprivileged user. It guards
// nothing.
func (f *field) openKey() error {
	content, err := os.ReadFile(f.key)
	if err != nil {
		return err
	}
	return os.WriteFile(f.pgbouncerKey(), content, 0o644)
}

func (f *field) pgbouncerKey() string { return filepath.Join(f.dir, "pgbouncer-key.pem") }

// enter starts the contenders of one kind of links.
func (f *field) enter(ctx context.Context, o options, l links) error {
	f.leave()
	for _, name := range o.contenders {
		if name == haproxy && l != (links{}) {
			continue // it does not know how PostgreSQL begins TLS
		}
		c, err := f.start(ctx, name, o, l)
		if err != nil && (name == pgbouncer || name == haproxy) && ctx.Err() == nil {
			fmt.Printf("%s is left out: %v\n", name, err)
			continue
		}
		if err != nil {
			return err
		}
		f.contenders = append(f.contenders, c)
	}
	return nil
}

// leave stops the contenders.
func (f *field) leave() {
	for _, c := range f.contenders {
		c.stop()
	}
	f.contenders = nil
}

func (f *field) close() error {
	f.leave()
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
	for _, l := range o.links {
		if err := f.enter(ctx, o, l); err != nil {
			return err
		}
		for _, mode := range o.modes {
			for _, clients := range o.clients {
				shots, err := f.interleave(ctx, o, mode, clients)
				if err != nil {
					return err
				}
				printCase(l, mode, clients, f.contenders, shots)
				load.note(shots[direct], o.slices)
			}
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
