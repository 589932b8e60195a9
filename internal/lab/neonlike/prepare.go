package neonlike

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
)

// prepareTimeout bounds Prepare: creating a database copies a template, which
// a busy disk makes slow.
const prepareTimeout = 60 * time.Second

// Options name what Prepare makes. The zero value makes what a new project has,
// with a random password.
type Options struct {
	Owner    string // role; DefaultOwner when empty
	Password string // random when empty
	Database string // DefaultDatabase when empty
}

// Prepare gives a running cluster the roles of Neon, one database and its
// owner, and returns the owner's DSN of that database. It may be called several
// times, also at once, with other names; names that exist are an error. The
// cluster's superuser does not matter, but only cloud_admin looks like Neon.
func Prepare(ctx context.Context, c *pgcluster.Cluster, o Options) (pg.DSN, error) {
	if o.Owner == "" {
		o.Owner = DefaultOwner
	}
	if o.Database == "" {
		o.Database = DefaultDatabase
	}
	if o.Password == "" {
		o.Password = "npg_" + rand.Text()
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()

	admin, err := pg.Connect(ctx, c.AdminDSN("postgres"), pg.WithName("neonlike"))
	if err != nil {
		return pg.DSN{}, err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	if err := pgx.BeginFunc(ctx, admin, func(tx pgx.Tx) error { return makeSystem(ctx, tx) }); err != nil {
		return pg.DSN{}, fmt.Errorf("make roles of the service: %w", err)
	}
	for _, sql := range customer(o) {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return pg.DSN{}, fmt.Errorf("make owner and database: %w", err)
		}
	}
	if err := openDatabase(ctx, c, o); err != nil {
		return pg.DSN{}, err
	}
	return c.DSN(o.Owner, o.Password, o.Database), nil
}

// openDatabase does what the service does within a new database.
func openDatabase(ctx context.Context, c *pgcluster.Cluster, o Options) error {
	admin, err := pg.Connect(ctx, c.AdminDSN(o.Database), pg.WithName("neonlike"))
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(context.WithoutCancel(ctx)) }()
	for _, sql := range withinDatabase(o) {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("open database: %w", err)
		}
	}
	return nil
}
