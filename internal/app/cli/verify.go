package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"crossfade/internal/app/compare"
	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/app/options"
)

type verifyCmd struct {
	Control string  `help:"Path of the control socket of the daemon whose two sides are compared, while it follows or after the switch." placeholder:"SOCKET"`
	Source  dsnFlag `help:"With --target, instead of a daemon: one of two databases that nobody writes to." env:"-" placeholder:"DSN"`
	Target  dsnFlag `help:"The other one." env:"-" placeholder:"DSN"`
	JSON    bool    `help:"Print one JSON object."`
	Cancel  bool    `help:"Stop the running comparison, even if another command requested it; the next one continues it."`
}

// stopPatience bounds the wait for a comparison that was stopped to let the databases go.
const stopPatience = 30 * time.Second

// Run has both sides compared, shows the progress, and prints what is not equal.
func (c *verifyCmd) Run(e *env) error {
	atRest := c.Source.given() || c.Target.given()
	if atRest && !(c.Source.given() && c.Target.given()) {
		return exit.Usage(errors.New("--source and --target go together: give both to compare two databases at rest, or neither to ask a daemon"))
	}
	if atRest && (c.Control != "" && c.Control != os.Getenv("CROSSFADE_CONTROL") || c.Cancel) {
		return exit.Usage(errors.New("--source and --target compare two databases without a daemon: leave out --control and --cancel"))
	}
	if c.Control == "" {
		c.Control = DefaultSocket()
	}
	client := control.NewClient(c.Control)
	if c.Cancel {
		return answered(client.StopVerify(e.ctx))
	}
	show := comparing(e)
	var r control.VerifyReport
	var err error
	if atRest {
		r, err = c.atRest(e, show)
	} else {
		r, err = verified(e, client, show)
	}
	show(control.Verify{}) // ends the line
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(e.stdout).Encode(r)
	} else {
		err = printVerified(e.stdout, r)
	}
	if code := r.ExitCode(); err == nil && code != exit.CodeDone {
		return exit.With(code, errShown)
	}
	return err
}

// verified asks the daemon. A signal stops the comparison, which the next request continues.
func verified(e *env, client *control.Client, show func(control.Verify)) (control.VerifyReport, error) {
	asking, leave := context.WithCancel(context.WithoutCancel(e.ctx))
	defer leave()
	stopped := make(chan struct{})
	stop := context.AfterFunc(e.ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(asking, stopPatience)
		defer cancel()
		_ = client.StopVerify(ctx) // where it has ended the answer says so
		leave()
	})
	r, err := client.Verify(asking, show)
	if !stop() {
		leave()
		<-stopped
	}
	if err != nil && e.ctx.Err() != nil {
		err = errors.New("stopped as asked: what was compared is kept, and crossfade verify continues")
	}
	if code := control.ExitCode(err); err != nil && code != exit.CodeUsage { // 1 is for differences
		return r, exit.NotComplete(err)
	}
	return r, answered(err)
}

// atRest compares two databases without a daemon.
func (c *verifyCmd) atRest(e *env, show func(control.Verify)) (control.VerifyReport, error) {
	sides := databases{Source: c.Source, Target: c.Target}
	if err := sides.check(e); err != nil {
		return control.VerifyReport{}, err
	}
	for flag, d := range map[string]dsnFlag{"--source": c.Source, "--target": c.Target} {
		if err := options.RefusePooler(flag, d.DSN); err != nil {
			return control.VerifyReport{}, exit.Usage(err)
		}
	}
	r, err := compare.AtRest(e.ctx, c.Source.DSN, c.Target.DSN, options.DefaultJobs(), show, zerolog.Nop())
	if err != nil {
		return r, exit.NotComplete(err)
	}
	return r, nil
}

// comparing returns what shows the progress: a line that is redrawn on a terminal, a line every few
// seconds elsewhere. Called with nothing it ends the line.
func comparing(e *env) func(control.Verify) {
	var last time.Time
	open := false
	onTerminal := terminal(e.stderr)
	return func(v control.Verify) {
		switch text := comparingText(v); {
		case v.State == "" && open:
			fmt.Fprintln(e.stderr)
			open = false
		case v.State == "":
		case onTerminal:
			fmt.Fprintf(e.stderr, "\r\x1b[K%s", text)
			open = true
		case time.Since(last) >= linesEvery:
			fmt.Fprintln(e.stderr, text)
			last = time.Now()
		}
	}
}

func comparingText(v control.Verify) string {
	text := fmt.Sprintf("verify %d/%d tables", v.TablesDone, v.TablesTotal)
	if v.Differences > 0 {
		text += fmt.Sprintf(", %d differences", v.Differences)
	}
	if v.LeftMS > 0 {
		text += fmt.Sprintf(", about %v left", (time.Duration(v.LeftMS) * time.Millisecond).Round(time.Second))
	}
	if v.Waits != "" {
		text += ", waits: " + v.Waits
	}
	return text
}

// printVerified prints what is not equal, and then the outcome.
func printVerified(w io.Writer, r control.VerifyReport) error {
	for _, d := range r.Differences {
		fmt.Fprintf(w, "%s %s %s: %s\n", verdictText(d.Verdict), d.Kind, d.Name, d.Reason)
		printEach(w, "  ", d.Keys)
	}
	_, err := fmt.Fprintf(w, "%s: %d tables, %d sequences and the definitions were compared\n", verdictText(r.Outcome), r.Tables, r.Sequences)
	return err
}

func verdictText(v string) string {
	if v == control.NotProvable {
		return "not provable"
	}
	return v
}
