package neonlike

import (
	"context"
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
)

// Project is a compute with a front of its own and one database in it.
type Project struct {
	*Endpoint
	// Owner names the database with its owner, through the front.
	Owner pg.DSN

	stop  context.CancelFunc
	ended chan error
}

// Start makes a project. logical is Config's. The caller must Close it.
func Start(ctx context.Context, logical bool, o Options) (*Project, error) {
	b, err := pgcluster.Find()
	if err != nil {
		return nil, err
	}
	c, err := pgcluster.Start(ctx, Config(b, logical))
	if err != nil {
		return nil, fmt.Errorf("start target cluster: %w", err)
	}
	p, err := before(ctx, c, o)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return p, nil
}

func before(ctx context.Context, c *pgcluster.Cluster, o Options) (*Project, error) {
	plain, err := Prepare(ctx, c, o)
	if err != nil {
		return nil, err
	}
	f, err := Listen(FrontConfig{})
	if err != nil {
		return nil, err
	}
	p := &Project{Endpoint: f.Add(c), ended: make(chan error, 1)}
	p.Owner = p.DSN(plain.User(), plain.Password(), plain.Database())
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() { p.ended <- f.Run(ctx) }()
	return p, nil
}

// Close ends the front and its compute, and removes what they kept. It is called once.
func (p *Project) Close() error {
	p.stop()
	return errors.Join(<-p.ended, p.cluster.Close())
}
