package neonlike

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster"
)

// adminTimeout bounds what the front asks of a compute for itself: a look at the
// catalog, on a machine that may be busy.
const adminTimeout = 30 * time.Second

// Endpoint is a compute under a host name of its own. Its methods may be called
// from several goroutines.
type Endpoint struct {
	id      string
	front   *Front
	cluster *pgcluster.Cluster
	socket  string // of the compute, where no password is asked for
	faults  faults

	power chan struct{} // held by anyone who puts the compute to sleep or wakes it

	mu      sync.Mutex // guards what follows, and the admin's session while it is used
	admin   *pgx.Conn
	secrets map[string]string // role → secret, for logins while the compute sleeps
	asleep  bool
	delay   time.Duration
}

// ID is the endpoint's name, the first label of its host.
func (e *Endpoint) ID() string { return e.id }

// Cluster is the compute.
func (e *Endpoint) Cluster() *pgcluster.Cluster { return e.cluster }

// Host is the endpoint's host name; PoolerHost that of its pooler.
func (e *Endpoint) Host() string       { return e.front.host(e.id) }
func (e *Endpoint) PoolerHost() string { return e.front.host(e.id + "-pooler") }

// RootFile is the certificate of the authority that signed the front's (PEM).
func (e *Endpoint) RootFile() string { return e.front.RootFile() }

// DSN names a database with a role, the way Neon's console does it: by the host name, with
// TLS that is verified and a password exchange that is bound to it.
func (e *Endpoint) DSN(user, password, database string) pg.DSN {
	return e.DSNAt(e.Host(), user, password, database)
}

// DSNAt is DSN by another host name. The name is sent to this front, whatever it is.
func (e *Endpoint) DSNAt(host, user, password, database string) pg.DSN {
	d, err := pg.ParseDSN(fmt.Sprintf("host=%s hostaddr=127.0.0.1 port=%d user=%s password=%s dbname=%s "+
		"sslmode=verify-full sslrootcert=%s channel_binding=require",
		quote(host), e.front.Port(), quote(user), quote(password), quote(database), quote(e.front.RootFile())))
	if err != nil { // every value is quoted, so only a programming error can get here
		panic(err)
	}
	return d
}

func quote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `'`, `\'`) + "'"
}

// verifier returns what the password of a role is checked with.
func (e *Endpoint) verifier(ctx context.Context, role string) (*verifier, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.asleep {
		err := e.askLocked(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			return e.readSecrets(ctx, conn, role)
		})
		if _, known := e.secrets[role]; err != nil && !known {
			return nil, refusal("Couldn't connect to compute node: %v", err)
		}
	}
	secret, ok := e.secrets[role]
	if !ok {
		return noVerifier(), nil
	}
	v, err := parseVerifier(secret)
	if err != nil {
		return noVerifier(), nil
	}
	return v, nil
}

// readSecrets takes over what the compute keeps of one role's password, or of all
// roles' where none is named.
func (e *Endpoint) readSecrets(ctx context.Context, conn *pgx.Conn, role string) error {
	rows, err := conn.Query(ctx, `SELECT rolname::text, coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE $1::text IN ('', rolname::text)`, role)
	if err != nil {
		return err
	}
	found := map[string]string{}
	var name, secret string
	if _, err := pgx.ForEachRow(rows, []any{&name, &secret}, func() error {
		found[name] = secret
		return nil
	}); err != nil {
		return err
	}
	delete(e.secrets, role)
	maps.Copy(e.secrets, found)
	return nil
}

// ask runs f in the admin's session.
func (e *Endpoint) ask(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.askLocked(ctx, f)
}

// askLocked is ask with mu held. A session that an earlier stop of the compute has
// cut is opened again.
func (e *Endpoint) askLocked(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	for again := e.admin != nil; ; again = false {
		if e.admin == nil {
			conn, err := pg.Connect(ctx, e.cluster.AdminDSN("postgres"), pg.WithName("neonlike"))
			if err != nil {
				return err
			}
			e.admin = conn
		}
		err := f(ctx, e.admin)
		if err == nil || !pg.ConnectionLost(err) && !e.admin.IsClosed() {
			return err
		}
		e.forgetLocked()
		if !again {
			return err
		}
	}
}

// forget closes the admin's session.
func (e *Endpoint) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetLocked()
}

func (e *Endpoint) forgetLocked() {
	if e.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
		defer cancel()
		_ = e.admin.Close(ctx)
		e.admin = nil
	}
}

// Size is what the databases of the compute take on disk, in bytes.
func (e *Endpoint) Size(ctx context.Context) (int64, error) {
	var bytes int64
	err := e.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT sum(pg_catalog.pg_database_size(oid))::bigint FROM pg_catalog.pg_database`).Scan(&bytes)
	})
	return bytes, err
}
