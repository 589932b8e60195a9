// Package options holds the options of a run or a one-shot copy, and refuses options that
// contradict each other.
package options

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"time"

	"crossfade/internal/app/logins"
	"crossfade/internal/app/watch"
	"crossfade/internal/base/pg"
)

// Run says what a run moves, and how. Cutover's own bounds come with each request for one.
type Run struct {
	Source, Target pg.DSN
	Listen         string // host:port at which clients are served
	Users          string // path of the users file, "" for none
	// MapRole has roles of the source log in at the target as other ones, which also own
	// there what they own and have their privileges; NoRole for not at all.
	MapRole      map[string]string
	AcceptRights []string // roles of the source that may have other rights on the target
	Control      string   // path of the control socket
	HTTP         string   // host:port for metrics and read-only status, "" for none
	Jobs         int      // COPY streams at once
	ChunkBytes   int64    // how much of a table one of them copies in a transaction; 0 for what the copy thinks best
	MaxRate      int64    // bytes a second of the copy, 0 for no bound
	WALBudget    int64    // bytes of WAL that the source may retain for us, 0 for no bound, AutoBudget to choose
	TLSCert      string   // certificate shown to clients, "" for no TLS
	TLSKey       string
	TLSClientCA  string           // who signs clients' certificates, "" to ask for none
	ClientAuth   string           // "scram-sha-256", "cert" or "trust"
	Reload       <-chan os.Signal // makes the users file be read again; nil for never
	// TrackSettings are custom settings that statements or functions compute the names of; not nil,
	// it is the operator's word that these are all. NoSettings says that there is none.
	TrackSettings []string

	SourceLockTimeout time.Duration // longest wait that a lock request of ours may cause
	HoldLimit         time.Duration // longest time that a client is held in a pause
	ShutdownTimeout   time.Duration // longest time that open transactions may take to end at a stop
	LargeObjects      bool          // copied too, and not followed
	Change            Change
	Schema            Schema
	Version           string
}

// Change says what is kept for a change of sides.
type Change struct {
	// VerifyMaxAge is how old the last comparison of both sides may be before it is warned of; 0 for never.
	VerifyMaxAge time.Duration
	// Fallback has what is written to the target after the switch followed to the source.
	Fallback bool
}

// Schema says what of the schema is not taken along, and how it is read.
type Schema struct {
	NoOwner    bool // leave every object to the target's role
	NoACL      bool // leave privileges out
	NoComments bool // leave comments out
	Roles      bool // make the source's roles, without passwords
	// LockWaitTimeout bounds pg_dump's wait for a table's lock; the dump's default if 0.
	LockWaitTimeout time.Duration
}

// AutoBudget as a WALBudget chooses one by the size of the source.
const AutoBudget = watch.AutoBudget

// Logins is what it says of who logs in.
func (c Run) Logins() logins.Config {
	return logins.Config{Source: c.Source, Target: c.Target, Users: c.Users, MapRole: c.MapRole, AcceptRights: c.AcceptRights, NoOwner: c.Schema.NoOwner,
		ClientAuth: c.ClientAuth, TLSClientCA: c.TLSClientCA}
}

// DefaultJobs is the number of COPY streams if none is given: with four, a stream that waits leaves
// no core idle, and with more than sixteen a target seldom gains.
func DefaultJobs() int { return min(max(runtime.NumCPU(), 4), 16) }

// Limits and their reasons.
const (
	// MaxJobs bounds the COPY streams: each costs a session on both sides.
	MaxJobs = 64
	// minLockTimeout keeps a lock request alive for longer than a scheduler's hiccup.
	minLockTimeout = 10 * time.Millisecond
	// maxLockTimeout stays below PostgreSQL's deadlock_timeout of 1 s, so that
	// we always give way before the server looks for a victim (C13).
	maxLockTimeout = 900 * time.Millisecond
)

// Validate says what is wrong with a Run, and what to write instead.
func (c Run) Validate() error {
	var errs []error
	if c.Source.IsZero() || c.Target.IsZero() {
		return errors.New("--source and --target are both needed")
	}
	for flag, d := range map[string]pg.DSN{"--source": c.Source, "--target": c.Target} {
		if err := RefusePooler(flag, d); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.Logins().ValidateMapRole())
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("--listen %q: write host:port, such as 127.0.0.1:6432", c.Listen))
	}
	if c.ChunkBytes < 0 {
		errs = append(errs, fmt.Errorf("--chunk-bytes %d: write a number above 0", c.ChunkBytes))
	}
	if c.Jobs < 1 || c.Jobs > MaxJobs {
		errs = append(errs, fmt.Errorf("--jobs %d: write a number from 1 to %d", c.Jobs, MaxJobs))
	}
	if c.SourceLockTimeout < minLockTimeout || c.SourceLockTimeout > maxLockTimeout {
		errs = append(errs, fmt.Errorf("--source-lock-timeout %v: write a time from %v to %v", c.SourceLockTimeout, minLockTimeout, maxLockTimeout))
	}
	if c.MaxRate < 0 || c.WALBudget < AutoBudget {
		errs = append(errs, errors.New("--max-rate and --wal-budget must not be negative: write a size such as 20M, or none"))
	}
	if c.HoldLimit <= 0 {
		errs = append(errs, fmt.Errorf("--hold-limit %v: write a time above 0, such as 30s", c.HoldLimit))
	}
	for _, name := range c.TrackSettings {
		if name != NoSettings && !strings.Contains(name, ".") {
			errs = append(errs, fmt.Errorf("--track-settings %q: write names with a dot, such as app.tenant_id, or %q; settings without one are always seen", name, NoSettings))
		}
	}
	if c.Change.VerifyMaxAge < 0 {
		errs = append(errs, fmt.Errorf("--verify-max-age %v: write a time such as 24h, or 0s for no warning", c.Change.VerifyMaxAge))
	}
	if c.ShutdownTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--shutdown-timeout %v: write a time above 0, such as 20s", c.ShutdownTimeout))
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key go together: give both, or neither"))
	}
	if c.TLSClientCA != "" && c.TLSCert == "" {
		errs = append(errs, errors.New("--tls-client-ca needs --tls-cert and --tls-key: clients show a certificate in TLS only"))
	}
	if c.ClientAuth == logins.ClientAuthCert && c.TLSClientCA == "" {
		errs = append(errs, errors.New("--client-auth=cert needs --tls-client-ca, the authority that signs clients' certificates"))
	}
	return errors.Join(errs...)
}

// NoSettings in place of a name says that no name of a setting is computed.
const NoSettings = "none"

// trackSettings is TrackSettings for the proxy.
func (c Run) ProxySettings() []string {
	if len(c.TrackSettings) == 0 {
		return nil
	}
	names := []string{}
	for _, name := range c.TrackSettings {
		if name != NoSettings {
			names = append(names, strings.ToLower(name))
		}
	}
	return names
}

// RefusePooler refuses a host that is Neon's pooler: neither sessions nor replication work through
// a pooler in transaction mode.
func RefusePooler(flag string, d pg.DSN) error {
	first, rest, _ := strings.Cut(d.Host(), ".")
	if !strings.HasSuffix(first, "-pooler") {
		return nil
	}
	return fmt.Errorf("%s: host %s is a connection pooler: use the direct host, %s.%s",
		flag, d.Host(), strings.TrimSuffix(first, "-pooler"), rest)
}

// CopyOptions are the options of a run that a copy has as well.
func (c Run) CopyOptions() Copy {
	schema := c.Schema
	schema.Roles = false // a run makes those that its logins need
	return Copy{Jobs: c.Jobs, Schema: schema, LargeObjects: c.LargeObjects}
}

// DefaultLockTimeout is the source lock timeout where no flag gives one.
const DefaultLockTimeout = 200 * time.Millisecond
