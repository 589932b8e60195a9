package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"crossfade/internal/control"
)

type cutoverCmd struct {
	socketFlag
	JSON         bool          `help:"Print the report as one JSON object."`
	DryRun       bool          `help:"Only say what would be done." xor:"kind"`
	Rehearse     bool          `help:"Do everything up to the decision, then release." xor:"kind"`
	AllowBypass  bool          `help:"Rehearse although writers bypass the proxy: they meet the fence for a moment."`
	DrainTimeout time.Duration `help:"How long open transactions may take to end; then the clients go on and the attempt is repeated." default:"2s"`
	Attempts     int           `help:"How many attempts are made." default:"5"`
	MaxPause     time.Duration `help:"Longest time from the closed gate to the decision." default:"10s"`
	Unmovable    string        `help:"What becomes of sessions that cannot be moved: wait for them (at most --drain-timeout in each attempt), abort and name them, or disconnect them with 57P01." default:"abort" enum:"wait,abort,disconnect"`
}

// Run asks the daemon for a cutover and prints its report.
func (c *cutoverCmd) Run(e *env) error {
	if c.DrainTimeout <= 0 || c.MaxPause <= 0 || c.Attempts < 1 {
		return &exitError{ExitUsage, fmt.Errorf("--drain-timeout, --max-pause and --attempts must be above 0")}
	}
	opt := control.CutoverOptions{DryRun: c.DryRun, Rehearse: c.Rehearse, AllowBypass: c.AllowBypass, Unmovable: c.Unmovable,
		DrainTimeoutMS: c.DrainTimeout.Milliseconds(), Attempts: c.Attempts, MaxPauseMS: c.MaxPause.Milliseconds()}
	r, err := control.NewClient(c.Control).Cutover(e.ctx, opt)
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		if err := json.NewEncoder(e.stdout).Encode(r); err != nil {
			return err
		}
	} else {
		printCutover(e.stdout, r)
	}
	if code := r.ExitCode(opt); code != ExitDone {
		return &exitError{code, errShown}
	}
	return nil
}

func printCutover(w io.Writer, r control.CutoverReport) {
	for _, t := range r.Timeline {
		fmt.Fprintf(w, "%+9.1f ms  %-22s %s\n", t.AtMS, t.Step, t.Detail)
	}
	fmt.Fprintf(w, "%s (epoch %d)", r.Outcome, r.Epoch)
	if r.Reason != "" {
		fmt.Fprintf(w, ": %s", r.Reason)
	}
	fmt.Fprintf(w, "\npause %.1f ms; %d sessions held, p50 %.1f ms, p99 %.1f ms, max %.1f ms; %d client errors, %d disconnected; %d tables, %d sequences\n",
		r.PauseMS, r.Held.Sessions, r.Held.P50MS, r.Held.P99MS, r.Held.MaxMS, r.ClientErrors, r.Disconnected, r.Tables, r.Sequences)
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note:", n)
	}
}

type fallbackCmd struct {
	socketFlag
	JSON bool `help:"Print the report as one JSON object."`
}

// Run refuses: there is no reverse stream yet.
func (c *fallbackCmd) Run(*env) error {
	return fmt.Errorf("this version has no way back: the target keeps no reverse stream, so the source lacks what was written since the switch")
}

type finishCmd struct {
	socketFlag
	JSON  bool `help:"Print the report as one JSON object."`
	Force bool `help:"Finish although a check refuses it."`
}

// Run ends the migration for good.
func (c *finishCmd) Run(e *env) error {
	r, err := control.NewClient(c.Control).Finish(e.ctx, control.FinishOptions{Force: c.Force})
	if err != nil {
		return answered(err)
	}
	if c.JSON {
		return json.NewEncoder(e.stdout).Encode(r)
	}
	for _, d := range r.Dropped {
		fmt.Fprintln(e.stdout, "dropped", d)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(e.stdout, "note:", n)
	}
	return nil
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(e *env) error {
	_, err := fmt.Fprintln(e.stdout, "crossfade", Version)
	return err
}
