package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/app/check"
	"crossfade/internal/app/daemon"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/options"
	"crossfade/internal/app/undo"
	"crossfade/internal/lab/demo"
	"crossfade/internal/lab/workload"
)

// loginFlags say who logs in as whom; a check and a run have them.
type loginFlags struct {
	Users        string            `help:"File with more users, one per line: user, secret, and optionally target user and target password. Read again on SIGHUP." placeholder:"FILE"`
	MapRole      map[string]string `help:"Role of the target that replaces a role of the source, such as app=neondb_owner, or - for none. By default every role keeps its name, and is created if missing." name:"map-role" placeholder:"SRC=DST" mapsep:"none"`
	AcceptRights []string          `help:"Roles of the source, comma separated, that may have other rights on the target: findings about these only warn." name:"accept-rights" placeholder:"ROLE"`
}

type runCmd struct {
	databases
	socketFlag
	loginFlags
	Listen            string        `help:"Address at which clients are served, host:port." required:"" placeholder:"HOST:PORT"`
	HTTP              string        `help:"Address at which metrics and a read-only status are served, host:port." name:"http" placeholder:"HOST:PORT"`
	Config            configFlag    `help:"JSON file with values for these flags." placeholder:"FILE"`
	Jobs              int           `help:"Maximum number of COPY streams; fewer are used while the target is overloaded." default:"${jobs}"`
	ChunkBytes        int64         `help:"How much of a table, in bytes on disk, one transaction copies." hidden:""`
	MaxRate           sizeFlag      `help:"Limit of the copy in bytes per second, all streams together, such as 20M, or none. crossfade limits changes it during the run." default:"none" placeholder:"RATE"`
	WALBudget         budgetFlag    `help:"Limit of the WAL that the source keeps for the migration, such as 50G; at the limit the slot is dropped, so that the disk does not fill. auto is a tenth of the data and at least 4G, none is no limit." name:"wal-budget" default:"auto" placeholder:"SIZE"`
	TLSCert           string        `help:"Certificate shown to clients (PEM)." name:"tls-cert" placeholder:"FILE"`
	TLSKey            string        `help:"Private key of --tls-cert (PEM)." name:"tls-key" placeholder:"FILE"`
	TLSClientCA       string        `help:"CA that signs clients' certificates (PEM); a certificate whose common name is the user then replaces the password." name:"tls-client-ca" placeholder:"FILE"`
	ClientAuth        string        `help:"How clients authenticate; cert requires a certificate." enum:"scram-sha-256,cert,trust" default:"scram-sha-256"`
	SourceLockTimeout time.Duration `help:"Longest wait that a lock of Crossfade may cause on the source." default:"200ms"`
	HoldLimit         time.Duration `help:"Longest time that a client is held." default:"60s"`
	TrackSettings     []string      `help:"Custom settings, comma separated, whose names are computed by the application or its functions; list all of them." placeholder:"NAME"`
	VerifyMaxAge      time.Duration `help:"Warn when the last comparison of both sides (crossfade verify) is older; 0s for no warning." default:"24h"`
	ShutdownTimeout   time.Duration `help:"Longest time that open transactions may take to end at SIGTERM; a second signal stops at once." default:"20s"`
	schemaFlags
	LargeObjects bool `help:"Copy large objects too; later changes to them are not followed."`
	NoFallback   bool `help:"Keep no way back: this is the default of this version." hidden:"" xor:"wayback"`
	Fallback     bool `help:"Keep a way back: follow what is written to the target after the switch to the source. Not complete yet." hidden:"" xor:"wayback"`
	copyOnlyFlags
}

// Run serves until it is told to stop.
func (c *runCmd) Run(e *env) error {
	defer outliveReader()()
	log, err := e.logger()
	if err != nil {
		return err
	}
	if err := c.check(e); err != nil {
		return err
	}
	if err := c.refuse(); err != nil {
		return err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	cfg := options.Run{Source: c.Source.DSN, Target: c.Target.DSN, Listen: c.Listen, Users: c.Users, MapRole: c.MapRole, AcceptRights: c.AcceptRights, Control: c.Control, HTTP: c.HTTP,
		Jobs: c.Jobs, ChunkBytes: c.ChunkBytes, MaxRate: int64(c.MaxRate), WALBudget: int64(c.WALBudget), TLSCert: c.TLSCert, TLSKey: c.TLSKey, TLSClientCA: c.TLSClientCA, ClientAuth: c.ClientAuth, TrackSettings: c.TrackSettings, Reload: hangups,
		SourceLockTimeout: c.SourceLockTimeout, HoldLimit: c.HoldLimit, ShutdownTimeout: c.ShutdownTimeout, LargeObjects: c.LargeObjects, Change: options.Change{VerifyMaxAge: c.VerifyMaxAge, Fallback: c.Fallback}, Version: Version,
		Schema: c.schemaFlags.options()}
	if err := cfg.Validate(); err != nil {
		return exit.Usage(err)
	}
	watch := newProgress(e)
	defer watch.close()
	return daemon.Run(e.ctx, cfg, log, watch.copying)
}

type checkCmd struct {
	databases
	loginFlags
	Copy bool `help:"Check for a copy, which needs less of the source, and takes the flags below."`
	partFlags
	schemaFlags
	LargeObjects bool   `help:"Check for a run or a copy with --large-objects."`
	JSON         bool   `help:"Print one JSON object." xor:"form"`
	SQL          bool   `help:"Print only the statements that remove the blockers, for psql." name:"sql" xor:"form"`
	On           string `help:"With --sql, the side whose statements are printed: source, target, or both (those for the source first). Needed if both sides have statements." enum:",source,target,both" default:""`
}

// once are the options of the copy that is checked for, nil for a run.
func (c *checkCmd) once() (*options.Copy, error) {
	if !c.Copy {
		if flag := c.given(); flag != "" {
			return nil, exit.Usage(fmt.Errorf("%s: a run moves the whole database into an empty one: give --copy too, to check for crossfade copy with it", "--"+flag))
		}
		return nil, nil
	}
	o := c.partFlags.options()
	o.Schema = c.schemaFlags.options()
	o.Jobs, o.LargeObjects = 1, c.LargeObjects
	o.Allow = func(context.Context, options.Removal) error { return errors.New("a check drops nothing") }
	if err := o.Validate(); err != nil {
		return nil, exit.Usage(err)
	}
	return &o, nil
}

// Run prints the findings.
func (c *checkCmd) Run(e *env) error {
	if err := c.check(e); err != nil {
		return err
	}
	once, err := c.once()
	if err != nil {
		return err
	}
	report, err := check.Run(e.ctx, options.Run{Source: c.Source.DSN, Target: c.Target.DSN, LargeObjects: c.LargeObjects, Users: c.Users, MapRole: c.MapRole, AcceptRights: c.AcceptRights,
		Schema: c.schemaFlags.options()}, once)
	switch {
	case exit.Code(err) == exit.CodeUsage:
		return err
	case err != nil:
		return exit.NotComplete(err)
	}
	if c.SQL {
		err = printStatements(e, report, c.On)
	} else {
		err = printReport(e.stdout, report, c.JSON)
	}
	if err != nil {
		return err
	}
	if code := report.ExitCode(); code != exit.CodeDone {
		return exit.With(code, errShown)
	}
	return nil
}

type recoverCmd struct{ databases }

// Run says which side is active and does the only safe thing.
func (c *recoverCmd) Run(e *env) error {
	if err := c.check(e); err != nil {
		return err
	}
	sentence, err := undo.Recover(e.ctx, c.Source.DSN, c.Target.DSN)
	if sentence != "" {
		fmt.Fprintln(e.stdout, sentence)
	}
	return err
}

type cleanCmd struct {
	databases
	Force bool `help:"Clean even after a switch was decided: the target keeps its data."`
}

// Run removes what an abandoned run left, printing each object.
func (c *cleanCmd) Run(e *env) error {
	if err := c.check(e); err != nil {
		return err
	}
	said := false
	err := undo.Clean(e.ctx, c.Source.DSN, c.Target.DSN, c.Force, func(line string) {
		said = true
		fmt.Fprintln(e.stdout, line)
	})
	if err == nil && !said {
		fmt.Fprintln(e.stdout, "nothing to remove: neither database holds a run or a copy")
	}
	return err
}

func printReport(w io.Writer, r answer.Report, asJSON bool) error {
	if asJSON {
		return answer.WriteJSON(w, r)
	}
	return answer.WriteText(w, r)
}

// printStatements prints statements alone, and on stderr what is to know of them.
func printStatements(e *env, r answer.Report, on string) error {
	err := answer.WriteSQL(e.stdout, e.stderr, r, answer.Side(on))
	if _, ok := errors.AsType[*answer.BothSidesError](err); ok {
		return exit.Usage(err)
	}
	return err
}

type demoCmd struct {
	Clients  int `help:"Number of clients, which read and write all the time." default:"12"`
	Accounts int `help:"Size of the application's data, in accounts of about 31 rows each." default:"10000"`
}

// Run plays the demo.
func (c *demoCmd) Run(e *env) error {
	if c.Clients < 1 || c.Accounts < 10 {
		return exit.Usage(fmt.Errorf("--clients must be at least 1 and --accounts at least 10"))
	}
	log, err := e.logger()
	if err != nil {
		return err
	}
	watch := newProgress(e)
	defer watch.close()
	return demo.Run(e.ctx, demo.Config{Clients: c.Clients, Shop: workload.Shop{Accounts: c.Accounts}, Version: Version, Log: log.Level(zerolog.WarnLevel),
		OnCopy: watch.copying, Out: e.stdout})
}
