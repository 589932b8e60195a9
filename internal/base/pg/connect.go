package pg

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ConnectTimeout bounds one attempt to log in where the connection string sets no bound. A
// suspended Neon compute may need several seconds to wake, and its proxy retries on its own for
// longer than seven.
const ConnectTimeout = 30 * time.Second

// KeySetting is the start-up setting that lets a session of ours pass a fence.
const KeySetting = "crossfade.key"

// Option changes how Connect opens a session.
type Option func(*sessionOptions)

type sessionOptions struct {
	name   string
	params map[string]string // go into the start-up options as -c name=value
}

// WithName sets what follows "crossfade" in application_name.
func WithName(name string) Option { return func(o *sessionOptions) { o.name = name } }

// WithKey hands the run's key to the session, so that it passes the fences.
func WithKey(key string) Option { return WithParam(KeySetting, key) }

// WithKeyFrom is WithKey with a key that is asked for at each login, since it may come to be known
// late. None is handed over while it is "".
func WithKeyFrom(key func() string) Option {
	return func(o *sessionOptions) {
		if k := key(); k != "" {
			o.params[KeySetting] = k
		}
	}
}

// WithLockTimeout bounds each wait of the session for a lock. Sessions that queue behind such a
// wait, or behind a lock that is held meanwhile, wait as long.
func WithLockTimeout(d time.Duration) Option {
	return WithParam("lock_timeout", strconv.FormatInt(max(1, d.Milliseconds()), 10))
}

// WithParam sets one more setting in the session's start-up options.
func WithParam(name, value string) Option {
	return func(o *sessionOptions) { o.params[name] = value }
}

// WithOwnSearchPath leaves the session the search path that the role has, as
// programs of PostgreSQL see it.
func WithOwnSearchPath() Option { return func(o *sessionOptions) { delete(o.params, "search_path") } }

// Connect opens a session of Crossfade's own at d. The caller owns the connection and closes it.
func Connect(ctx context.Context, d DSN, opts ...Option) (*pgx.Conn, error) {
	cfg := d.Config()
	pinned := prepare(&cfg.Config, opts)
	attach := withFrames(&cfg.Config)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, ConnectError(d, err)
	}
	attach(conn.PgConn())
	// By the simple protocol: one round trip, which may be a long one.
	if _, err := conn.PgConn().Exec(ctx, pinned).ReadAll(); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("prepare session at %s: %w", d.Redacted(), err)
	}
	return conn, nil
}

// ConnectReplication opens a logical walsender session (replication=database;
// PostgreSQL documentation 55.4). The caller owns it.
func ConnectReplication(ctx context.Context, d DSN, opts ...Option) (*pgconn.PgConn, error) {
	cfg := d.Config()
	pinned := prepare(&cfg.Config, opts)
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, ConnectError(d, err)
	}
	// A walsender is subject to them too: one that keeps an exported snapshot is idle.
	if _, err := conn.Exec(ctx, pinned).ReadAll(); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("prepare replication session at %s: %w", d.Redacted(), err)
	}
	return conn, nil
}

// prepare sets the start-up packet of a session, and returns the statements that
// pin its settings once more after the login.
func prepare(cfg *pgconn.Config, opts []Option) (pinned string) {
	o := sessionOptions{params: sessionParams()}
	for _, f := range opts {
		f(&o)
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, ConnectTimeout)
	own := cfg.RuntimeParams["options"]
	cfg.RuntimeParams = map[string]string{
		"application_name": sessionName(o.name, cfg.RuntimeParams["application_name"]),
		"client_encoding":  "UTF8",
		"options":          strings.TrimSpace(own + " " + Options(o.params)),
	}
	return pinSQL(o.params)
}

// Options writes settings in the form of the start-up parameter "options":
// -c name=value, with backslashes before backslashes and white space.
func Options(params map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(params)) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("-c " + escapeOption(k) + "=" + escapeOption(params[k]))
	}
	return b.String()
}

func escapeOption(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\\' || r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '\v' || r == '\f' {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// ServerVersion returns the version of the server as server_version_num does, made from
// what the server announced at login; 0 if it cannot be read.
func ServerVersion(conn *pgx.Conn) int {
	var major, minor int
	n, _ := fmt.Sscanf(conn.PgConn().ParameterStatus("server_version"), "%d.%d", &major, &minor)
	if n == 0 {
		return 0
	}
	return major*10000 + minor
}

// Exec runs a text of one or more statements in one round trip, by the simple protocol. What
// they return is dropped.
func Exec(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}
