package workload

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"crossfade/internal/lab/history"
)

// Report is what the clients did, when they have stopped.
type Report struct {
	Totals
	Clients    []ClientReport
	ErrorTexts []string            // the first, a few of each client
	Latency    Quantiles           // of acknowledged transactions
	Trips      Quantiles           // of the slowest answer of each operation
	Operations []history.Operation // for history.Check; by client, in order of time
}

// ClientReport is one client's part.
type ClientReport struct {
	Totals
	Client  int
	Driver  Driver
	Latency Quantiles
	// LongestGap is the longest time between the ends of two operations that
	// were answered, the pause of a rate limit included.
	LongestGap time.Duration
}

// Quantiles of durations.
type Quantiles struct {
	P50, P99, Max time.Duration
	N             int
}

// QuantilesOf sorts a copy of ds and picks.
func QuantilesOf(ds []time.Duration) Quantiles {
	if len(ds) == 0 {
		return Quantiles{}
	}
	s := slices.Sorted(slices.Values(ds))
	at := func(percent int) time.Duration { return s[(len(s)*percent+99)/100-1] }
	return Quantiles{P50: at(50), P99: at(99), Max: s[len(s)-1], N: len(s)}
}

func (q Quantiles) String() string {
	if q.N == 0 {
		return "not measured"
	}
	r := func(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
	return fmt.Sprintf("p50 %s, p99 %s, max %s", r(q.P50), r(q.P99), r(q.Max))
}

// Stall is a client's longest wait for an answer around an instant.
type Stall struct {
	Client int
	Start  time.Time
	Took   time.Duration
}

// StallsAround returns each client's longest wait for one answer that touches the
// time from window before at to window after it, the longest first. Clients that
// asked nothing then are left out.
func (r Report) StallsAround(at time.Time, window time.Duration) []Stall {
	from, to := at.Add(-window), at.Add(window)
	longest := map[int]Stall{}
	for _, o := range r.Operations {
		t := o.Slowest
		if t.Start.After(to) || t.Start.Add(t.Took).Before(from) {
			continue
		}
		if s, ok := longest[o.Token.Client]; !ok || t.Took > s.Took {
			longest[o.Token.Client] = Stall{o.Token.Client, t.Start, t.Took}
		}
	}
	out := make([]Stall, 0, len(longest))
	for _, s := range longest {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Stall) int { return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(a.Client, b.Client)) })
	return out
}

// QuantilesOfStalls is what the clients felt, one wait each.
func QuantilesOfStalls(stalls []Stall) Quantiles {
	ds := make([]time.Duration, len(stalls))
	for i, s := range stalls {
		ds[i] = s.Took
	}
	return QuantilesOf(ds)
}

// Print writes the report for a person.
func (r Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-4s %-22s %12s %7s %8s %8s %6s %5s %10s %10s %10s\n",
		"#", "driver", "acknowledged", "failed", "unknown", "reads", "stale", "lost", "p50", "p99", "gap")
	of := func(measured int, d time.Duration) string {
		if measured == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
	}
	for _, c := range r.Clients {
		fmt.Fprintf(&b, "%-4d %-22s %12d %7d %8d %8d %6d %5d %10s %10s %10s\n", c.Client, c.Driver,
			c.Acknowledged, c.Failed, c.Unknown, c.Reads, c.Stale, c.Lost, of(c.Latency.N, c.Latency.P50), of(c.Latency.N, c.Latency.P99), of(int(c.LongestGap), c.LongestGap))
	}
	fmt.Fprintf(&b, "%-27s %12d %7d %8d %8d %6d %5d\n", "all", r.Acknowledged, r.Failed, r.Unknown, r.Reads, r.Stale, r.Lost)
	fmt.Fprintf(&b, "transactions: %v\nanswers:      %v\n", r.Latency, r.Trips)
	for _, e := range r.ErrorTexts {
		fmt.Fprintf(&b, "error: %s\n", e)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func report(clients []*client) Report {
	var rep Report
	var latencies, trips []time.Duration
	for _, c := range clients {
		c.rec.mu.Lock()
		cr := ClientReport{Totals: c.rec.totals, Client: c.number, Driver: c.driver}
		var own []time.Duration
		var last time.Time
		for _, o := range c.rec.ops {
			trips = append(trips, o.Slowest.Took)
			if o.Outcome != history.OK {
				continue
			}
			if o.Token.Seq > 0 {
				own = append(own, o.Latency())
			}
			if !last.IsZero() {
				cr.LongestGap = max(cr.LongestGap, o.End.Sub(last))
			}
			last = o.End
		}
		cr.Latency = QuantilesOf(own)
		latencies = append(latencies, own...)
		rep.Operations = append(rep.Operations, c.rec.ops...)
		for _, e := range c.rec.errors {
			rep.ErrorTexts = append(rep.ErrorTexts, fmt.Sprintf("client %d (%s): %s", c.number, c.driver, e))
		}
		c.rec.mu.Unlock()
		rep.Totals.plus(cr.Totals)
		rep.Clients = append(rep.Clients, cr)
	}
	rep.Latency, rep.Trips = QuantilesOf(latencies), QuantilesOf(trips)
	return rep
}
