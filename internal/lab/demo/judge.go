package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"crossfade/internal/app/control"
	"crossfade/internal/base/pg"
	"crossfade/internal/lab/history"
	"crossfade/internal/lab/workload"
)

// feltWindow is the time around the cutover in which a client's longest wait
// counts as the pause that it felt.
const feltWindow = 5 * time.Second

func printTimeline(w io.Writer, r control.CutoverReport) {
	for _, t := range r.Timeline {
		fmt.Fprintf(w, "    %s  attempt %d  %+9.1f ms  %-22s %s\n", t.At.Local().Format("15:04:05.000"), t.Attempt, t.AtMS, t.Step, t.Detail)
	}
}

// printHeld prints how long the cutover held sessions, and how long clients waited around
// it: no times where nothing was measured.
func printHeld(w io.Writer, h control.Held, felt workload.Quantiles) {
	fmt.Fprintf(w, "held sessions                  %8d", h.Sessions)
	if h.Sessions > 0 {
		fmt.Fprintf(w, "   p50 %.1f ms, p99 %.1f ms, max %.1f ms", h.P50MS, h.P99MS, h.MaxMS)
	}
	fmt.Fprintf(w, "\nlongest wait of each client    %8d   %v\n", felt.N, felt)
}

// judge prints the report and returns an error for whatever was lost, doubled
// or different.
func judge(ctx context.Context, cfg Config, c *clusters, d *running, load workload.Report, r control.CutoverReport, asked time.Time) error {
	conn, err := pg.Connect(ctx, c.targetDSN, pg.WithName("demo"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	res, err := history.Check(ctx, conn, load.Operations, history.Options{Ledger: cfg.Shop.Ledger(), Invariants: cfg.Shop.Invariants(), Switches: 1})
	if err != nil {
		return err
	}
	s, err := d.client.Status(ctx)
	if err != nil {
		return err
	}
	felt := workload.QuantilesOfStalls(load.StallsAround(asked, feltWindow))
	out := cfg.Out
	fmt.Fprintf(out, "\n=== what the clients saw ===\n")
	if err := load.Print(out); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n=== the ledger on the target ===\n")
	if err := res.Print(out); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n=== report ===\n")
	fmt.Fprintf(out, "pause, gate closed to open     %8.1f ms\n", r.PauseMS)
	printHeld(out, r.Held, felt)
	fmt.Fprintf(out, "client errors                  %8d\n", load.Errors()+r.ClientErrors)
	fmt.Fprintf(out, "acknowledged transactions      %8d\n", res.Acknowledged)
	fmt.Fprintf(out, "found exactly once             %8d\n", res.Found)
	fmt.Fprintf(out, "lost                           %8d\n", res.Lost.Count)
	fmt.Fprintf(out, "doubled                        %8d\n", res.Doubled.Count)
	fmt.Fprintf(out, "tables compared                %8d of %d: %s\n", s.Verify.TablesDone, s.Verify.TablesTotal, s.Verify.State)
	for _, n := range r.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	var faults []error
	if n := load.Errors() + r.ClientErrors; n > 0 {
		faults = append(faults, fmt.Errorf("%d client errors", n))
	}
	if err := res.Err(); err != nil {
		faults = append(faults, err)
	}
	if s.Verify.State != "equal" {
		faults = append(faults, fmt.Errorf("the comparison of the tables says %s, %d differ", s.Verify.State, s.Verify.Differences))
	}
	if len(faults) == 0 {
		fmt.Fprintln(out, "\nnothing lost, nothing doubled, nothing different")
	}
	return errors.Join(faults...)
}
