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
		b.WriteString("-c " + optionEscapes.Replace(k) + "=" + optionEscapes.Replace(params[k]))
	}
	return b.String()
}

// optionEscapes puts a backslash before what would end an option.
var optionEscapes = strings.NewReplacer(`\`, `\\`, " ", `\ `, "\t", "\\\t", "\n", "\\\n", "\r", "\\\r", "\v", "\\\v", "\f", "\\\f")

// ServerVersion is Version of a session of ours.
func ServerVersion(conn *pgx.Conn) int { return Version(conn.PgConn()) }

// Version returns the version of the server as server_version_num does, made from
// what the server announced at login; 0 if it cannot be read.
func Version(conn *pgconn.PgConn) int { return parseVersion(conn.ParameterStatus("server_version")) }

func parseVersion(text string) int {
	var major, minor int
	_, _ = fmt.Sscanf(text, "%d.%d", &major, &minor) // without a minor number, such as 17beta1, it fails after the first
	return major*10000 + minor
}

// Close ends a session and waits until its socket is closed, in all no longer than within.
func Close(conn *pgconn.PgConn, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_ = conn.Close(ctx)
	select {
	case <-conn.CleanupDone():
	case <-ctx.Done():
	}
}

// Exec runs a text of one or more statements in one round trip, by the simple protocol. What
// they return is dropped.
func Exec(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// textSettings are the settings that change how a value is written as text, how a text is read as a
// value, or what a statement's text means, for every type that comes with PostgreSQL. Every session
// of ours has them, on both sides, whatever the server, the database and the role have set: the
// walsender whose stream carries values as text, both ends of a COPY, what applies changes, and
// what compares rows. All may be set by any role. docs/operate/values.md says what each would do.
var textSettings = map[string]string{
	"DateStyle":                   "ISO, MDY",
	"IntervalStyle":               "postgres",
	"TimeZone":                    "UTC",
	"timezone_abbreviations":      "Default",
	"extra_float_digits":          "3",
	"bytea_output":                "hex",
	"lc_monetary":                 "C",
	"xmlbinary":                   "base64",
	"xmloption":                   "content",
	"array_nulls":                 "on",
	"quote_all_identifiers":       "off",
	"search_path":                 "pg_catalog",
	"standard_conforming_strings": "on",
	"backslash_quote":             "safe_encoding",
	"escape_string_warning":       "off",
	"transform_null_equals":       "off",
}

// sessionSettings are what else every session of ours has: no limits of time that someone else
// chose, no rows that are left out without a word, and an end that the server notices when we are
// gone.
var sessionSettings = map[string]string{
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"row_security":                        "off",
	"default_transaction_read_only":       "off",
	"default_transaction_isolation":       "read committed",
	"default_transaction_deferrable":      "off",
	"client_min_messages":                 "warning",
	"jit":                                 "off",
	"synchronous_commit":                  "on",
	"tcp_keepalives_idle":                 "20",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
}

// laterSettings are limits of time that not every server version knows, so that they
// cannot stand in the start-up packet.
var laterSettings = map[string]string{"idle_session_timeout": "0", "transaction_timeout": "0"}

// sessionParams are the settings that go into the start-up packet.
func sessionParams() map[string]string {
	params := maps.Clone(textSettings)
	maps.Copy(params, sessionSettings)
	return params
}

// TextSQL returns the statements that give a session the settings that keep the text
// of values the same everywhere, for one that may not be of Connect's making.
func TextSQL() string { return pinSQL(textSettings) }

// pinSQL sets the settings of the start-up packet once more, with those that came
// with later versions, in one round trip: a pooler in front of a server may have
// dropped the packet's options, and a trigger on login may have set others. The run's
// key is left out, since statements are logged.
func pinSQL(params map[string]string) string {
	var b strings.Builder
	if path, ok := params["search_path"]; ok {
		b.WriteString("SELECT pg_catalog.set_config('search_path', " + QuoteLiteral(path) + ", false); ")
	}
	b.WriteString("SELECT pg_catalog.count(pg_catalog.set_config(v.name, v.value, false)) FROM (VALUES ")
	all := maps.Clone(params)
	maps.Copy(all, laterSettings)
	delete(all, KeySetting)
	delete(all, "search_path")
	for i, name := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(" + QuoteLiteral(name) + ", " + QuoteLiteral(all[name]) + ")")
	}
	b.WriteString(") AS v(name, value) WHERE pg_catalog.current_setting(v.name, true) IS NOT NULL") // those that the server knows
	return b.String()
}
