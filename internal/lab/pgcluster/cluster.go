package pgcluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"crossfade/internal/base/pg"
)

// Config says what cluster to make. The zero value makes a small one with the
// superuser "postgres".
type Config struct {
	Binaries  Binaries          // Find() when empty
	Superuser string            // bootstrap superuser, "postgres" when empty
	Settings  map[string]string // lines of postgresql.conf, over the defaults
	HBA       []string          // lines of pg_hba.conf, before the defaults
	InitArgs  []string          // more arguments of initdb
	Dir       string            // directory to make the cluster's own in; the system's temporary one when empty
	Log       io.Writer         // gets the server's log too; may be nil

	// CopyOf, if set, has the cluster begin as a physical copy of another one that runs, with
	// its system identifier, roles, databases and settings; Superuser and InitArgs do not
	// count then. With Standby it goes on as a hot standby of that one.
	CopyOf  *Cluster
	Standby bool

	// Adapt, if set, is called once, before the first start. It may put files into the
	// cluster's directory, which the servers' user then owns, and returns the server program
	// to run.
	Adapt func(dir string, b Binaries) (program string, err error)
}

// Cluster is one running or stopped cluster. Its methods may be called from
// several goroutines.
type Cluster struct {
	cfg      Config
	own      owner
	dir      string
	password string
	program  string // of the server

	mu     sync.Mutex // guards what follows
	port   int
	server *server
	closed bool
	log    tail
}

var defaults = map[string]string{
	"fsync":                     "off",
	"full_page_writes":          "off",
	"shared_buffers":            "32MB",
	"max_connections":           "200",
	"max_wal_senders":           "30",
	"max_replication_slots":     "30",
	"max_prepared_transactions": "10",
	"password_encryption":       "scram-sha-256",
	"log_min_messages":          "warning",
	"log_line_prefix":           "'%m [%p] %q%u@%d '",
	"timezone":                  "'UTC'",
	"log_timezone":              "'UTC'",
	"listen_addresses":          "'127.0.0.1'",
}

// Start makes a cluster and starts it. The caller must Close it.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Binaries.Dir == "" {
		b, err := Find()
		if err != nil {
			return nil, err
		}
		cfg.Binaries = b
	}
	if cfg.Superuser == "" {
		cfg.Superuser = "postgres"
	}
	own, err := serverOwner()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cfg.Dir, "crossfade-pg-")
	if err != nil {
		return nil, fmt.Errorf("make directory of the cluster: %w", err)
	}
	c := &Cluster{cfg: cfg, own: own, dir: dir, password: rand.Text()}
	if cfg.CopyOf != nil {
		c.cfg.Superuser, c.password = cfg.CopyOf.cfg.Superuser, cfg.CopyOf.password
	}
	if err := c.create(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := c.StartServer(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) create(ctx context.Context) error {
	if err := c.own.own(c.dir); err != nil {
		return fmt.Errorf("hand directory of the cluster over: %w", err)
	}
	if c.cfg.CopyOf != nil {
		return c.copyPhysically(ctx)
	}
	pwfile, err := c.WriteFile("password", []byte(c.password+"\n"), 0o600)
	if err != nil {
		return err
	}
	args := append([]string{"-D", c.data(), "-U", c.cfg.Superuser, "-A", "scram-sha-256", "--pwfile", pwfile, "-E", "UTF8", "-N"}, c.cfg.InitArgs...)
	if !slices.ContainsFunc(c.cfg.InitArgs, func(s string) bool { return strings.HasPrefix(s, "--locale") }) {
		args = append(args, "--no-locale")
	}
	cmd := exec.CommandContext(ctx, c.cfg.Binaries.Path("initdb"), args...)
	cmd.SysProcAttr = c.own.attributes()
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	settings := maps.Clone(defaults)
	maps.Copy(settings, c.cfg.Settings)
	if err := c.configure(settings); err != nil {
		return err
	}
	hba := strings.Join(append(slices.Clone(c.cfg.HBA),
		"local all all scram-sha-256", "host all all 127.0.0.1/32 scram-sha-256",
		"local replication all scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(c.data(), "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return fmt.Errorf("write pg_hba.conf: %w", err)
	}
	c.program = c.cfg.Binaries.Path("postgres")
	if c.cfg.Adapt != nil {
		var err error
		if c.program, err = c.cfg.Adapt(c.dir, c.cfg.Binaries); err != nil {
			return err
		}
		if err := c.own.ownAll(c.dir); err != nil {
			return fmt.Errorf("hand directory of the cluster over: %w", err)
		}
	}
	return nil
}

// configure adds settings to postgresql.conf, where the last line of a name counts.
func (c *Cluster) configure(settings map[string]string) error {
	settings["unix_socket_directories"] = "'" + c.dir + "'"
	var conf strings.Builder
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = %s\n", k, settings[k])
	}
	f, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open postgresql.conf: %w", err)
	}
	_, err = f.WriteString(conf.String())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	return nil
}

// copyPhysically makes the data directory by pg_basebackup.
func (c *Cluster) copyPhysically(ctx context.Context) error {
	from := c.cfg.CopyOf
	args := []string{"-D", c.data(), "-h", from.Host(), "-p", strconv.Itoa(from.Port()), "-U", c.cfg.Superuser, "-X", "stream", "--checkpoint=fast", "--no-sync"}
	if c.cfg.Standby {
		args = append(args, "--write-recovery-conf")
	}
	cmd := exec.CommandContext(ctx, c.cfg.Binaries.Path("pg_basebackup"), args...)
	cmd.SysProcAttr = c.own.attributes()
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "PGPASSWORD="+c.password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w: %s", err, bytes.TrimSpace(out))
	}
	settings := maps.Clone(c.cfg.Settings)
	if settings == nil {
		settings = map[string]string{}
	}
	c.program = c.cfg.Binaries.Path("postgres")
	return c.configure(settings)
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// WriteFile puts a file beside the data directory, owned by the servers' user,
// and returns its path. The cluster's Close removes it.
func (c *Cluster) WriteFile(name string, content []byte, mode os.FileMode) (string, error) {
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, content, mode); err != nil {
		return "", fmt.Errorf("write %s: %w", name, err)
	}
	if err := c.own.own(path); err != nil {
		return "", fmt.Errorf("hand %s over: %w", name, err)
	}
	return path, nil
}

// Host returns the address that the cluster listens on.
func (c *Cluster) Host() string { return "127.0.0.1" }

// Port returns the TCP port. It stays the same over restarts.
func (c *Cluster) Port() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.port
}

// Dir returns the cluster's directory, which also holds its socket.
func (c *Cluster) Dir() string { return c.dir }

// Binaries returns the programs that the cluster runs on.
func (c *Cluster) Binaries() Binaries { return c.cfg.Binaries }

// AdminDSN names the database with the bootstrap superuser.
func (c *Cluster) AdminDSN(database string) pg.DSN {
	return c.DSN(c.cfg.Superuser, c.password, database)
}

// DSN names the database with a role. The names must be fit for a connection
// string of key=value form, which quoting sees to.
func (c *Cluster) DSN(user, password, database string) pg.DSN {
	q := func(s string) string {
		return "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `'`, `\'`) + "'"
	}
	d, err := pg.ParseDSN(fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable connect_timeout=10",
		c.Host(), c.Port(), q(user), q(password), q(database)))
	if err != nil { // every value is quoted, so only a programming error can get here
		panic(err)
	}
	return d
}

// ServerLog returns the last part of the server's log.
func (c *Cluster) ServerLog() string { return c.log.String() }

// Close stops the servers at once and removes the cluster's directory. It may
// be called twice.
func (c *Cluster) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	stop := c.Stop(ctx, Immediate)
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return errors.Join(stop, os.RemoveAll(c.dir))
}
