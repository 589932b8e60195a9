package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/base/retry"
)

type cutoverCmd struct {
	changeFlags
	RequireVerified bool `help:"Refuse unless crossfade verify has found both sides equal within --verify-max-age of the run."`
}

// Run switches to the target.
func (c *cutoverCmd) Run(e *env) error { return c.change(e, false, c.RequireVerified) }

type fallbackCmd struct {
	changeFlags
}

// Run goes back to the source.
func (c *fallbackCmd) Run(e *env) error { return c.change(e, true, false) }

// changeFlags are those of what changes the active side, in either direction.
type changeFlags struct {
	socketFlag
	JSON         bool          `help:"Print the report as one JSON object."`
	DryRun       bool          `help:"Only report what would be done." xor:"kind"`
	Rehearse     bool          `help:"Do everything up to the decision, then let the clients continue where they are." xor:"kind"`
	AllowBypass  bool          `help:"Rehearse even if writers bypass the proxy; for a moment they get errors from the fence."`
	DrainTimeout time.Duration `help:"Longest time that open transactions may take to end; after that the clients continue, and the attempt is repeated." default:"2s"`
	Attempts     int           `help:"Maximum number of attempts." default:"5"`
	MaxPause     time.Duration `help:"Longest time from the closed gate to the decision." default:"10s"`
	Cancel       bool          `help:"Withdraw the running cutover, even if another command requested it, and say how it ended." xor:"kind"`
	Unmovable    string        `help:"What to do with sessions that cannot be moved: wait for them (at most --drain-timeout in each attempt), abort and name them, or disconnect them with 57P01." default:"abort" enum:"wait,abort,disconnect"`
}

// Bounds of the wait for a cutover that was withdrawn.
const (
	// withdrawPatience is how long it may take to be undone before the command leaves.
	withdrawPatience = 30 * time.Second
	// withdrawGrace is how long its report may take once it has ended.
	withdrawGrace = 5 * time.Second
)

// change asks the daemon for a cutover, or back for a fallback, shows its steps as they happen, and
// prints its report. A signal withdraws it.
func (c *changeFlags) change(e *env, back, verified bool) error {
	if c.DrainTimeout <= 0 || c.MaxPause <= 0 || c.Attempts < 1 {
		return exit.Usage(fmt.Errorf("--drain-timeout, --max-pause and --attempts must be above 0: write 2s, 10s and 5 attempts, or leave them out"))
	}
	client := control.NewClient(c.Control)
	if c.Cancel {
		return c.cancel(e, client)
	}
	opt := control.CutoverOptions{Back: back, DryRun: c.DryRun, Rehearse: c.Rehearse, AllowBypass: c.AllowBypass, RequireVerified: verified, Unmovable: c.Unmovable,
		DrainTimeoutMS: c.DrainTimeout.Milliseconds(), Attempts: c.Attempts, MaxPauseMS: c.MaxPause.Milliseconds()}
	steps := e.stdout
	if c.JSON {
		steps = e.stderr // the report is the one object on stdout
	}
	asking, leave := context.WithCancel(context.WithoutCancel(e.ctx))
	var withdrawing sync.WaitGroup
	defer withdrawing.Wait()
	defer leave()
	withdrawing.Go(func() {
		select {
		case <-e.ctx.Done():
			withdraw(asking, e.stderr, client)
			leave()
		case <-asking.Done():
		}
	})
	said := &reasons{}
	r, err := client.CutoverShown(asking, opt, shown(steps, said))
	if err != nil {
		if e.ctx.Err() != nil && control.ExitCode(err) == exit.CodeNotComplete {
			err = &control.Error{Code: control.CodeLost, Message: "the cutover was withdrawn, and its outcome is not known yet: " + err.Error()}
		}
		return answered(err)
	}
	if err := c.print(e, r, said); err != nil {
		return err
	}
	if code := opt.ExitCode(r); code != exit.CodeDone {
		return exit.With(code, errShown)
	}
	return nil
}

// withdraw takes back the cutover that this command has asked for. The daemon tells what
// became of it in the answer to the request itself.
func withdraw(ctx context.Context, w io.Writer, client *control.Client) {
	fmt.Fprintln(w, "crossfade: withdrawing the cutover and waiting for its outcome; a second signal ends the wait")
	ctx, cancel := context.WithTimeout(ctx, withdrawPatience)
	defer cancel()
	if _, err := client.CancelCutover(ctx, control.CancelOptions{Interrupted: true}); err != nil && ctx.Err() == nil {
		fmt.Fprintln(w, "crossfade:", oneLine(err))
	}
	_ = retry.Sleep(ctx, withdrawGrace)
}

// cancel withdraws the cutover that runs.
func (c *changeFlags) cancel(e *env, client *control.Client) error {
	r, err := client.CancelCutover(e.ctx, control.CancelOptions{})
	if err != nil {
		return answered(err)
	}
	if err := c.print(e, r, &reasons{}); err != nil {
		return err
	}
	if r.Outcome == control.OutcomeSwitched {
		return errors.New("the cutover could not be withdrawn any more: it was decided")
	}
	return nil
}

func (c *changeFlags) print(e *env, r control.CutoverReport, said *reasons) error {
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(r)
	}
	printCutover(e.stdout, r, said)
	return nil
}

// clock is how the steps of a cutover show the time of day.
const clock = "15:04:05.000"

// shown prints each step as it happens. A reason that a step before has told, as what follows from
// a failure and the next attempts do, is not told again.
func shown(w io.Writer, said *reasons) func(control.Event) {
	return func(s control.Event) {
		fmt.Fprintf(w, "%s  %3d  %-22s %s\n", s.At.Local().Format(clock), s.Attempt, s.Step, said.once(s.Detail))
	}
}

const (
	// longReason is how many bytes a reason has that is worth being left out.
	longReason = 40
	sameReason = "as said"
)

// reasons are the reasons that a command has printed.
type reasons struct{ told []string }

// once returns a text without what was told before, and remembers it.
func (r *reasons) once(text string) string {
	short := text
	for _, before := range r.told {
		short = strings.Replace(short, before, sameReason, 1)
	}
	if short != text {
		return short
	}
	_, why, _ := strings.Cut(text, ": ") // what a step says of its failure, without the kind of it
	for _, reason := range []string{text, why} {
		if len(reason) >= longReason {
			r.told = append(r.told, reason)
		}
	}
	return text
}

// printCutover prints what the steps have not shown. What was not measured is not printed.
func printCutover(w io.Writer, r control.CutoverReport, said *reasons) {
	if r.Outcome == control.OutcomePlanned {
		printPlan(w, r)
	}
	fmt.Fprintf(w, "%s (epoch %d)", r.Outcome, r.Epoch)
	switch {
	case r.Outcome == control.OutcomePlanned && r.Reason != "":
		fmt.Fprintf(w, ", and it would be refused: %s", r.Reason)
	case r.Reason != "":
		fmt.Fprintf(w, ": %s", said.once(r.Reason))
	}
	fmt.Fprintln(w)
	last := r.Reason
	for _, a := range r.Attempts {
		reason := a.Reason
		if len(reason) >= longReason && (strings.Contains(last, reason) || strings.Contains(reason, last) && len(last) >= longReason) {
			a.Reason = sameReason
		}
		a.Reason = said.once(a.Reason)
		last = cmp.Or(reason, last)
		printAttempt(w, a)
	}
	if r.Outcome != control.OutcomePlanned {
		fmt.Fprintf(w, "%d client errors, %d disconnected; ", r.ClientErrors, r.Disconnected)
	}
	if r.Outcome != control.OutcomePlanned || r.Tables+r.Sequences > 0 && r.EstimateLeastMS > 0 { // else a side did not answer
		fmt.Fprintf(w, "%d tables, %d sequences\n", r.Tables, r.Sequences)
	}
	printEach(w, "note:", r.Notes)
}

// printEach prints a line for each text, with what it is before it.
func printEach(w io.Writer, what string, texts []string) {
	for _, text := range texts {
		fmt.Fprintln(w, what, text)
	}
}

func printAttempt(w io.Writer, a control.Attempt) {
	fmt.Fprintf(w, "attempt %d: ", a.Attempt)
	switch {
	case a.ClosedAt.IsZero():
		fmt.Fprint(w, "the gate was not closed")
	case a.PauseMS == 0:
		fmt.Fprintf(w, "gate closed at %s", a.ClosedAt.Local().Format(clock))
	default:
		fmt.Fprintf(w, "gate closed at %s, pause %.1f ms", a.ClosedAt.Local().Format(clock), a.PauseMS)
	}
	if h := a.Held; h.Sessions > 0 {
		fmt.Fprintf(w, "; %d clients waited, p50 %.1f ms, p99 %.1f ms, max %.1f ms", h.Sessions, h.P50MS, h.P99MS, h.MaxMS)
	} else if !a.ClosedAt.IsZero() {
		fmt.Fprint(w, "; no client had to wait")
	}
	if a.Reason != "" {
		fmt.Fprintf(w, "; %s", a.Reason)
	}
	fmt.Fprintln(w)
}

// printPlan prints the steps to come, and what they would meet.
func printPlan(w io.Writer, r control.CutoverReport) {
	for _, t := range r.Timeline {
		fmt.Fprintf(w, "%-22s %s\n", t.Step, t.Detail)
	}
	for _, list := range []struct {
		what  string
		items []string
	}{{"session that would not move", r.Unmovable}, {"open transaction", r.Transactions}, {"session that bypasses the proxy", r.Bypass}} {
		for _, x := range list.items {
			if strings.Contains(r.Reason, x) {
				continue // which is printed below
			}
			fmt.Fprintf(w, "%s: %s\n", list.what, x)
		}
	}
	for _, b := range r.Blockers {
		if strings.Contains(r.Reason, b.Detail) && strings.Contains(r.Reason, b.Remedy) {
			continue
		}
		fmt.Fprintf(w, "blocker %s: %s; %s\n", b.Code, b.Detail, b.Remedy)
	}
}

type finishCmd struct {
	socketFlag
	JSON       bool     `help:"Print the report as one JSON object."`
	Yes        bool     `help:"Finish without asking."`
	OpenSource bool     `help:"Remove the fence of the source, so that it accepts writes again. By default it stays closed."`
	Accept     []string `help:"Finish even if this table is not proved equal, such as --accept=shop.orders." placeholder:"TABLE" sep:"none"`
	Force      bool     `help:"Finish even if a check refuses it."`
}

// Run ends the migration for good, after it has asked.
func (c *finishCmd) Run(e *env) error {
	client := control.NewClient(c.Control)
	opt := control.FinishOptions{Force: c.Force, Accept: c.Accept, OpenSource: c.OpenSource}
	if !c.Yes {
		plan := opt
		plan.Plan = true
		r, err := client.Finish(e.ctx, plan)
		if err != nil {
			return answered(err)
		}
		if err := allowFinish(e.ctx, e, r); err != nil {
			return err
		}
	}
	r, err := client.Finish(e.ctx, opt)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(r)
	}
	printEach(e.stdout, "dropped", r.Dropped)
	printEach(e.stdout, "kept", r.Kept)
	printEach(e.stdout, "note:", r.Notes)
	return nil
}
