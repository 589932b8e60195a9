package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"crossfade/internal/app/control"
	"crossfade/internal/app/exit"
	"crossfade/internal/base/lists"
)

// socketFlag names the control socket of a daemon.
type socketFlag struct {
	Control string `help:"Path of the daemon's control socket." default:"${socket}" placeholder:"SOCKET"`
}

// DefaultSocket is where the daemon listens unless configured otherwise: a place that belongs to
// the user.
func DefaultSocket() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "crossfade.sock")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("crossfade-%d.sock", os.Getuid()))
}

type statusCmd struct {
	socketFlag
	JSON     bool `help:"Print one JSON object."`
	Watch    bool `help:"Keep running and print each change."`
	Sessions bool `help:"Print one line for each client session."`
}

// Run prints the state of the daemon.
func (c *statusCmd) Run(e *env) error {
	client := control.NewClient(c.Control)
	show := func(s control.Status) error {
		if c.JSON {
			return json.NewEncoder(e.stdout).Encode(s)
		}
		_, err := io.WriteString(e.stdout, statusText(s))
		return err
	}
	switch {
	case c.Sessions:
		sessions, err := client.Sessions(e.ctx)
		if err != nil {
			return answered(err)
		}
		return printSessions(e.stdout, sessions, c.JSON, time.Now())
	case c.Watch:
		err := client.Watch(e.ctx, show)
		if e.ctx.Err() != nil {
			return nil
		}
		return answered(err)
	}
	s, err := client.Status(e.ctx)
	if err != nil {
		return answered(err)
	}
	if err := show(s); err != nil {
		return err
	}
	if s.Ill() != nil {
		return exit.With(exit.CodeNotComplete, errShown)
	}
	return nil
}

// answered gives an error of the control client its exit code.
func answered(err error) error {
	if err == nil {
		return nil
	}
	return exit.With(control.ExitCode(err), err)
}

func statusText(s control.Status) string {
	var b strings.Builder
	away := ""
	if s.ActiveAway != "" {
		away = " (away)"
	}
	fmt.Fprintf(&b, "phase %s | active %s%s | epoch %d", s.Phase, s.Active, away, s.Epoch)
	if s.Phase == "copying" || s.Phase == control.PhaseStopped && s.Copy.TablesDone < s.Copy.TablesTotal {
		fmt.Fprintf(&b, " | copied %d/%d tables, %s of %s, %d rows", s.Copy.TablesDone, s.Copy.TablesTotal,
			bytesText(s.Copy.BytesDone), bytesText(s.Copy.BytesTotal), s.Copy.RowsDone)
		if s.Copy.MaxRateBytes > 0 {
			fmt.Fprintf(&b, ", at most %s/s", bytesText(s.Copy.MaxRateBytes))
		}
		if s.Copy.Held {
			b.WriteString(", held")
		}
		if s.Copy.TablesRestarted > 0 {
			fmt.Fprintf(&b, ", %d tables again", s.Copy.TablesRestarted)
		}
		if s.Copy.TablesRepaired > 0 {
			fmt.Fprintf(&b, ", %d tables repaired (%d keys)", s.Copy.TablesRepaired, s.Copy.KeysRepaired)
		}
		fmt.Fprintf(&b, " | retained WAL %s of %s", knownBytes(s.Replication.RetainedWALBytes), boundText(s.Replication.WALBudgetBytes, ""))
	} else {
		b.WriteString(replicationText(s.Replication))
	}
	fmt.Fprintf(&b, " | sessions %d, in transaction %d, parked %d", s.Proxy.Sessions, s.Proxy.InTransaction, s.Proxy.Parked)
	fmt.Fprintf(&b, " | ready %s | fallback %s | verify %s %d/%d", yesNo(s.Ready), s.Fallback.State, s.Verify.State, s.Verify.TablesDone, s.Verify.TablesTotal)
	if s.Verify.Differences > 0 {
		fmt.Fprintf(&b, ", %d differences", s.Verify.Differences)
	}
	if s.Verify.LeftMS > 0 {
		fmt.Fprintf(&b, ", about %v left", (time.Duration(s.Verify.LeftMS) * time.Millisecond).Round(time.Second))
	}
	if s.Verify.Waits != "" {
		fmt.Fprintf(&b, ", waits: %s", s.Verify.Waits)
	}
	b.WriteByte('\n')
	for _, x := range s.Warnings {
		fmt.Fprintf(&b, "  warning %s: %s; %s\n", x.Code, x.Detail, x.Remedy)
	}
	for _, x := range s.Blockers {
		fmt.Fprintf(&b, "  blocker %s: %s; %s\n", x.Code, x.Detail, x.Remedy)
	}
	return b.String()
}

// replicationText says how far the stream is, and nothing that is not known.
func replicationText(r control.Replication) string {
	var b strings.Builder
	switch r.State {
	case "ended":
		b.WriteString(" | stream ended with the switch")
	case "stopped":
		b.WriteString(" | stream stopped")
	case "none":
		b.WriteString(" | stream not started")
	case "connecting":
		b.WriteString(" | stream connecting")
	case "source_away":
		b.WriteString(" | stream cut off from the source")
	case "target_away":
		b.WriteString(" | stream cut off from the target")
	default:
		b.WriteString(" | lag ")
		if r.LagMS >= 0 {
			fmt.Fprintf(&b, "%d ms, ", r.LagMS)
		}
		b.WriteString(knownBytes(r.LagBytes))
	}
	if r.AppliedLSN != "" {
		b.WriteString(" | applied " + r.AppliedLSN)
	}
	if r.RetainedWALBytes >= 0 {
		b.WriteString(" | retained WAL " + bytesText(r.RetainedWALBytes))
	}
	return b.String()
}

// knownBytes is bytesText of a figure that may not be known.
func knownBytes(n int64) string {
	if n < 0 {
		return "unknown"
	}
	return bytesText(n)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// bytesText writes a number of bytes with a binary unit.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	div, exp := int64(unit), 0
	for m := n / unit; m >= unit; m /= unit {
		div *= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[exp])
}

// printSessions prints one line for each session.
func printSessions(w io.Writer, sessions []control.Session, asJSON bool, now time.Time) error {
	if asJSON {
		return json.NewEncoder(w).Encode(sessions)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tCLIENT\tUSER\tDATABASE\tAPPLICATION\tSIDE\tSTATE\tFOR\tVERDICT\tREASON")
	for _, s := range sessions {
		why := lists.Map(s.Reasons, func(r control.SessionReason) string { return r.Detail })
		verdict := s.Verdict
		if s.Stale {
			verdict += " (before)"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%v\t%s\t%s\n", s.ID, s.Client, cell(s.User), cell(s.Database), cell(s.ApplicationName),
			s.Side, s.State, max(0, now.Sub(s.Since)).Truncate(time.Second), verdict, cell(strings.Join(why, "; ")))
	}
	return t.Flush()
}

// cell is a text that a client chose, made fit for one cell of a terminal's table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
