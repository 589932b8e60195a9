package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/app/check"
	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/options"
	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
)

type commands struct {
	Check    checkCmd    `cmd:"" help:"Check whether a database can be moved; exit code 0 ready, 1 blocked, 3 could not complete."`
	Copy     copyCmd     `cmd:"" help:"Copy a database once, without a proxy: the job of pg_dump | pg_restore."`
	Run      runCmd      `cmd:"" help:"Serve the applications, copy, follow every change, and wait for the cutover."`
	Status   statusCmd   `cmd:"" help:"Show the state of the run."`
	Cutover  cutoverCmd  `cmd:"" help:"Move every session to the target."`
	Verify   verifyCmd   `cmd:"" help:"Compare both sides row by row, at any time and without stopping anybody; exit code 0 equal, 1 different, 3 could not complete."`
	Limits   limitsCmd   `cmd:"" help:"Show or change the limits on the load of the source."`
	Fallback fallbackCmd `cmd:"" help:"Go back to the source, with everything that was written since the switch."`
	Recover  recoverCmd  `cmd:"" help:"Say which side is active and take the only safe step."`
	Finish   finishCmd   `cmd:"" help:"End the migration: drop what Crossfade made on both sides. Cannot be undone."`
	Clean    cleanCmd    `cmd:"" help:"Remove what an abandoned run left on both sides."`
	Demo     demoCmd     `cmd:"" help:"Run a migration and a cutover between two local clusters, under the load of an application."`
	Version  versionCmd  `cmd:"" help:"Print the version."`

	ShowVersion versionFlag `name:"version" help:"Print the version." env:"-"`
	LogLevel    string      `help:"Lowest level to log: debug, info, warn, error." default:"info" enum:"debug,info,warn,error"`
	LogFormat   string      `help:"Format of the log: console, json, or auto (console on a terminal)." default:"auto" enum:"auto,console,json"`
}

// databases are the two flags that name the databases.
type databases struct {
	Source dsnFlag `help:"The database to move: a libpq connection string." required:"" placeholder:"DSN"`
	Target dsnFlag `help:"The database to move it to." required:"" placeholder:"DSN"`
}

// dsnFlag is a connection string whose password is never printed. Its errors are reported by
// databases.check and not by the parser, which would show the value.
type dsnFlag struct {
	pg.DSN
	err error
}

// given reports whether there is a value, right or wrong.
func (d *dsnFlag) given() bool { return d.err != nil || !d.IsZero() }

// UnmarshalText reads a connection string.
func (d *dsnFlag) UnmarshalText(text []byte) error {
	d.DSN, d.err = pg.ParseDSN(string(text))
	return nil
}

// check says what is wrong with the connection strings, and warns of what has no effect.
func (d *databases) check(e *env) error {
	var said []string
	for _, side := range []struct {
		flag string
		dsnFlag
	}{{"--source", d.Source}, {"--target", d.Target}} {
		if side.err != nil {
			return exit.Usage(fmt.Errorf("%s: %w", side.flag, side.err))
		}
		for _, w := range side.Warnings() {
			if !slices.Contains(said, w) { // the environment is the same for both
				e.warn(w)
				said = append(said, w)
			}
		}
	}
	return nil
}

// errShown is an error that has been shown already.
var errShown = errors.New("")

// Main runs the command line and returns the exit code. It owns the process's signals while it
// runs: SIGINT and SIGTERM end the command, a second one ends the process.
func Main(args []string, stdout, stderr io.Writer) int {
	var root commands
	code := -1
	parser, err := kong.New(&root,
		kong.Name("crossfade"),
		kong.Description("Move a live PostgreSQL database to Neon while its applications keep running."),
		kong.Writers(stdout, stderr),
		kong.DefaultEnvars("CROSSFADE"),
		kong.Vars{"socket": DefaultSocket(), "jobs": strconv.Itoa(options.DefaultJobs())},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(c int) { code = c }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "crossfade:", err)
		return exit.CodeNotComplete
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if code >= 0 { // --help has been shown
		return code
	}
	if err != nil {
		err = exit.Usage(unparsed(err, args, parser.Model))
		if slices.Contains(args, "--json") {
			return reportJSON(err, stdout, stderr)
		}
		code := report(err, stderr)
		fmt.Fprintln(stderr, "Try: crossfade --help")
		return code
	}
	ctx, stop := untilSignal()
	defer stop()
	e := &env{ctx: ctx, stdin: os.Stdin, stdout: stdout, stderr: stderr, level: root.LogLevel, format: root.LogFormat}
	err = parsed.Run(e)
	if asJSON(parsed) {
		return reportJSON(err, stdout, stderr)
	}
	return e.report(err)
}

// report shows the error with which a command ended, and returns the exit code.
func (e *env) report(err error) int {
	refused := errors.As(err, new(*check.RefusedError)) && e.format != obs.FormatJSON // an answer for people, as that of check
	if err == nil || errors.Is(err, errShown) || e.lines == nil || refused {
		return report(err, e.stderr)
	}
	code := exit.Code(err)
	if refused, alone := refusedAlone(err); alone { // one finding a line
		for _, f := range refused.Report.Findings {
			e.lines.Error().Str("code", f.Code).Str("object", f.Object).Str("detail", f.Detail).Str("remedy", f.Do()).Msg("refused")
		}
		for _, i := range refused.Report.Incomplete {
			e.lines.Error().Str("check", i.Check).Str("detail", oneLine(i.Err)).Msg("could not be checked")
		}
		err = errors.New("not begun: " + answer.Verdict(refused.Report))
	}
	e.lines.Error().Str(obs.KeyError, oneLine(err)).Int("exit", code).Msg("ended with an error")
	return code
}

// asJSON reports whether the command was asked for JSON.
func asJSON(parsed *kong.Context) bool {
	for _, f := range parsed.Selected().Flags {
		if f.Name == "json" {
			return f.Target.Bool()
		}
	}
	return false
}

// refusedAlone returns the findings that refused a beginning, if err is about nothing else.
func refusedAlone(err error) (*check.RefusedError, bool) {
	refused, ok := errors.AsType[*check.RefusedError](err)
	return refused, ok && err.Error() == refused.Error()
}

func report(err error, stderr io.Writer) int {
	if err == nil {
		return exit.CodeDone
	}
	refused, alone := refusedAlone(err)
	switch {
	case errors.Is(err, errShown):
	case alone:
		fmt.Fprintln(stderr, "crossfade: not begun")
		_ = printReport(stderr, refused.Report, false) // a caller that does not read the report has the exit code
	default:
		fmt.Fprintln(stderr, "crossfade:", toldError(err))
		if told, ok := errors.AsType[*control.Error](err); ok && len(told.Blockers) > 1 {
			for _, b := range told.Blockers {
				fmt.Fprintf(stderr, "  blocker %s: %s; %s\n", b.Code, b.Detail, b.Remedy)
			}
		}
	}
	return exit.Code(err)
}

// reportJSON is report for a command that prints JSON: what went wrong is one object too.
func reportJSON(err error, stdout, stderr io.Writer) int {
	if err == nil || errors.Is(err, errShown) {
		return report(err, stderr)
	}
	var told *control.Error
	if !errors.As(err, &told) {
		codes := map[int]string{exit.CodeRefused: control.CodeRefused, exit.CodeUsage: control.CodeUsage}
		told = &control.Error{Code: codes[exit.Code(err)], Message: oneLine(err)}
		told.Code = cmp.Or(told.Code, control.CodeIncomplete)
	}
	if werr := json.NewEncoder(stdout).Encode(told); werr != nil {
		return report(err, stderr)
	}
	return exit.Code(err)
}

// toldError is an error as a person reads it: what a run has told keeps its lines, since statements
// to type may be among them.
func toldError(err error) string {
	if _, ok := errors.AsType[*control.Error](err); ok {
		return strings.TrimSpace(err.Error())
	}
	return oneLine(err)
}

// oneLine puts an error of several parts on one line.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// env is what a command gets.
type env struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	level, format  string
	// lines is the log of a command that has one and does not run at a terminal: everything else
	// that it prints to stderr goes there too, so that all lines have one form. Otherwise nil.
	lines *zerolog.Logger
}

// logger makes the log of a command.
func (e *env) logger() (zerolog.Logger, error) {
	format := e.format
	if format == "console" {
		format = obs.FormatText
	}
	log, err := obs.NewLogger(format, e.level, e.stderr)
	if err != nil {
		return log, exit.Usage(err)
	}
	if !terminal(e.stderr) || format == obs.FormatJSON {
		e.lines = &log
	}
	return log, nil
}

// warn tells what does not stop the command.
func (e *env) warn(text string) {
	if e.lines != nil {
		e.lines.Warn().Msg(text)
		return
	}
	fmt.Fprintln(e.stderr, "crossfade: warning:", text)
}

// untilSignal returns a context that the first SIGINT or SIGTERM ends. The second has its usual
// effect, however soon it comes: it ends the process. stop gives the signals back.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	stopped := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stopped:
				return
			case s := <-signals:
				if n == 0 {
					cancel()
					continue
				}
				signal.Reset(s)
				_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		cancel()
	}
}

// outliveReader makes writes to a pipe fail that is no longer read, instead of ending the process:
// for commands whose work matters more than their output. stop undoes that.
func outliveReader() (stop func()) {
	signals := make(chan os.Signal, 1) // ignoring the signal instead would be inherited by pg_dump
	signal.Notify(signals, syscall.SIGPIPE)
	return func() { signal.Stop(signals) }
}
