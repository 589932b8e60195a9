package machine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"crossfade/cutover/machine"
	"crossfade/cutover/machine/machinetest"
)

// TestScripts plays the scenarios of testdata. Run with -rewrite to write the answers again, and
// commit the difference only when you can say why it is right. The commands:
//
//	new [world=following|on_target] [attempts=N] [way_back]   begin, and recover from what the journal says
//	request [mode=cutover|rehearse|dry_run] [reverse]         the operator asks
//	ok [until=PHASE]                                          the outstanding calls succeed, or all until a phase
//	fail op=OP class=CLASS [performed] [gate]                 one call fails; performed: its write has arrived
//	                                                          nevertheless; gate: the proxy has opened the gate again
//	fingerprint side=source|target sum=S [detail=D]           answer a fingerprint
//	lag bytes=N | census bypass=N                             answer these
//	timer [pause] [late]                                      a timer fires
//	arrive                                                    a write that was lost arrives
//	lost side=source|target | wanted | trip | stop | withdraw what comes from outside
//	kill                                                      SIGKILL, and a new process
//
// Every answer lists the effects, then the state, then what the world looks like.
func TestScripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		p := &player{}
		datadriven.RunTest(t, path, p.run)
	})
}

type player struct {
	s   machine.State
	w   machinetest.World
	out strings.Builder
}

func (p *player) run(t *testing.T, d *datadriven.TestData) string {
	p.out.Reset()
	switch d.Cmd {
	case "new":
		p.begin(t, d)
	case "request":
		e := machine.Requested{ID: 1, Direction: machine.Forward}
		if d.HasArg("mode") {
			var mode string
			d.ScanArgs(t, "mode", &mode)
			e.Mode = map[string]machine.Mode{"cutover": machine.ModeCutover, "rehearse": machine.ModeRehearse, "dry_run": machine.ModeDryRun}[mode]
		}
		if d.HasArg("reverse") {
			e.Direction = machine.Reverse
		}
		p.event(e)
	case "ok":
		p.ok(t, d)
	case "fail":
		p.fail(t, d)
	case "fingerprint", "lag", "census":
		p.answer(t, d)
	case "timer":
		p.timer(d)
	case "arrive":
		arrived := p.w.Arrivals()
		require.NotEmpty(t, arrived, d.Pos)
		p.w = arrived[0]
	case "lost":
		var side string
		d.ScanArgs(t, "side", &side)
		gen := p.s.GenOf.SourceLock
		if machine.Side(side) == machine.SideTarget {
			gen = p.s.GenOf.TargetLock
		}
		p.event(machine.LockLost{Side: machine.Side(side), Gen: gen, Reason: "a session waited 200ms on it"})
	case "wanted":
		p.event(machine.LockWanted{})
	case "trip":
		p.event(machine.Tripped{Detail: "transaction 4711 at 0/1A2B3C"})
	case "stop":
		p.event(machine.Stopped{})
	case "withdraw":
		p.event(machine.Withdrawn{ID: 1, Reason: "as scripted"})
	case "kill":
		p.w.Lose(p.s, p.s.Pending)
		p.w.Gate = ""
		p.s = machine.Begin(p.s.Limits, p.s.WayBack)
		p.event(machine.Started{})
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	fmt.Fprintf(&p.out, "= %v\n", p.s)
	fmt.Fprintf(&p.out, "= journal %s/%d, register %s, gate %s, open %s\n", p.w.Step, p.w.Epoch, p.w.Register, orClosed(p.w.Gate), p.sides())
	return p.out.String()
}

func (p *player) sides() string {
	switch {
	case p.w.Source && p.w.Target:
		return "BOTH"
	case p.w.Source:
		return "source"
	case p.w.Target:
		return "target"
	default:
		return "none"
	}
}

func orClosed(s machine.Side) string {
	if s == "" {
		return "closed"
	}
	return string(s)
}

func (p *player) begin(t *testing.T, d *datadriven.TestData) {
	limits := machine.DefaultLimits()
	limits.Attempts = 2
	if d.HasArg("attempts") {
		d.ScanArgs(t, "attempts", &limits.Attempts)
	}
	p.w = machinetest.Following()
	if d.HasArg("world") {
		p.w = machinetest.OnTarget()
	}
	p.s = machine.Begin(limits, d.HasArg("way_back"))
	p.event(machine.Started{})
}

// event performs one event and prints what came of it.
func (p *player) event(e machine.Event) {
	before := p.s
	var effects []machine.Effect
	p.s, effects = machine.Step(p.s, e)
	for _, eff := range effects {
		switch eff := eff.(type) {
		case machine.StopCalls:
			p.w.Lose(before, before.Pending)
		case machine.Call:
			if eff.Op == machine.OpPause {
				p.w.Gate = ""
			}
		}
		if err := p.w.Forbidden(p.s, eff); err != nil {
			fmt.Fprintf(&p.out, "BROKEN %v\n", err)
		}
		fmt.Fprintf(&p.out, "%v\n", eff)
	}
}

func (p *player) ok(t *testing.T, d *datadriven.TestData) {
	until := ""
	if d.HasArg("until") {
		d.ScanArgs(t, "until", &until)
	}
	begin := p.s.Phase
	for range patience {
		if until == "" && p.s.Phase != begin || p.s.Phase.String() == until || p.s.Pending == 0 {
			return
		}
		p.event(p.w.Do(p.s, firstOf(p.s.Pending)))
	}
	d.Fatalf(t, "phase %s was not reached", until)
}

func (p *player) fail(t *testing.T, d *datadriven.TestData) {
	var name, class string
	d.ScanArgs(t, "op", &name)
	d.ScanArgs(t, "class", &class)
	op, c := opOf(name), classOf(class)
	require.True(t, p.s.Pending.Has(op), "%s: %s is not outstanding", d.Pos, name)
	if d.HasArg("performed") {
		p.w.Do(p.s, op)
	} else if c == machine.ClassUnknown {
		p.w.Lose(p.s, machine.Ops(op))
	}
	if d.HasArg("gate") {
		p.w.Gate = p.s.Active()
	}
	p.event(machine.Failed{Op: op, Gen: p.s.Gen, Class: c, Reason: "as scripted"})
}

func opOf(name string) machine.Op {
	for o := machine.Op(0); o < machine.OpCount; o++ {
		if o.String() == name {
			return o
		}
	}
	return machine.OpCount
}

func classOf(name string) machine.Class {
	for c := machine.ClassFailure; c < machine.ClassDrainTimeout; c++ {
		if c.String() == name {
			return c
		}
	}
	return machine.ClassDrainTimeout
}

func (p *player) answer(t *testing.T, d *datadriven.TestData) {
	switch d.Cmd {
	case "fingerprint":
		var side, sum, detail string
		d.ScanArgs(t, "side", &side)
		d.ScanArgs(t, "sum", &sum)
		if d.HasArg("detail") {
			d.ScanArgs(t, "detail", &detail)
		}
		p.event(machine.Fingerprinted{Gen: p.s.Gen, Side: machine.Side(side), Sum: sum, Detail: detail})
	case "lag":
		var bytes int64
		d.ScanArgs(t, "bytes", &bytes)
		p.event(machine.LagRead{Gen: p.s.Gen, Bytes: bytes})
	case "census":
		var bypass int
		d.ScanArgs(t, "bypass", &bypass)
		p.event(machine.CensusTaken{Gen: p.s.Gen, Bypass: bypass})
	}
}

func (p *player) timer(d *datadriven.TestData) {
	e := machine.TimerFired{Timer: machine.TimerPhase, Gen: p.s.Gen}
	if d.HasArg("pause") {
		e = machine.TimerFired{Timer: machine.TimerPause, Gen: p.s.GenOf.Pause}
	}
	if d.HasArg("late") {
		e.Gen--
	} else if !d.HasArg("pause") {
		p.w.Lose(p.s, p.s.Pending)
	}
	p.event(e)
}
