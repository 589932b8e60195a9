package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/neonlike"
	"crossfade/internal/lab/pgcluster"
	"crossfade/internal/lab/workload"
)

// clusters are the two sides of the demo.
type clusters struct {
	source               *pgcluster.Cluster
	target               *neonlike.Project
	sourceDSN, targetDSN pg.DSN
}

// startClusters starts both sides and fills the source.
func startClusters(ctx context.Context, shop workload.Shop) (*clusters, error) {
	c := &clusters{}
	err := func() (err error) {
		if c.source, err = pgcluster.Start(ctx, pgcluster.Config{
			Settings: map[string]string{"wal_level": "logical"}, InitArgs: []string{"--locale=C.UTF-8"}}); err != nil {
			return fmt.Errorf("source cluster: %w", err)
		}
		if c.target, err = neonlike.Start(ctx, false, neonlike.Options{}); err != nil {
			return fmt.Errorf("target cluster: %w", err)
		}
		c.targetDSN = c.target.Owner
		return c.fill(ctx, shop)
	}()
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// fill makes the application's role, database and rows.
func (c *clusters) fill(ctx context.Context, shop workload.Shop) error {
	password := rand.Text()
	admin, err := pg.Connect(ctx, c.source.AdminDSN("postgres"), pg.WithName("demo"))
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	for _, sql := range []string{
		"CREATE ROLE shop LOGIN REPLICATION PASSWORD " + pg.QuoteLiteral(password),
		"GRANT pg_monitor, pg_signal_backend TO shop",
		"CREATE DATABASE shop OWNER shop",
	} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("make the application's database: %w", err)
		}
	}
	c.sourceDSN = c.source.DSN("shop", password, "shop")
	app, err := pg.Connect(ctx, c.sourceDSN, pg.WithName("demo"))
	if err != nil {
		return err
	}
	defer func() { _ = app.Close(context.WithoutCancel(ctx)) }()
	if err := shop.Setup(ctx, app); err != nil {
		return fmt.Errorf("make the application's rows: %w", err)
	}
	return nil
}

func (c *clusters) close() error {
	var errs []error
	if c.target != nil {
		errs = append(errs, c.target.Close())
	}
	if c.source != nil {
		errs = append(errs, c.source.Close())
	}
	return errors.Join(errs...)
}
