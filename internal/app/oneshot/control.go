package oneshot

import (
	"context"
	"sync/atomic"

	"github.com/rs/zerolog"

	"crossfade/internal/app/control"
	"crossfade/internal/app/migration"
	"crossfade/internal/app/options"
	"crossfade/internal/base/journal"
	"crossfade/replicate/copy/relay"
)

// copyControl is what a one-shot copy shows of itself at a control socket, where it
// is given one, and the bound that it has changed there.
type copyControl struct {
	limit   *relay.Limiter
	version string

	migration atomic.Pointer[migration.Migration] // whose figures are shown; nil until it is open
}

// serveCopy makes one and serves it until end is called.
func serveCopy(ctx context.Context, opts options.Copy, log zerolog.Logger) (c *copyControl, end func(), err error) {
	c = &copyControl{limit: relay.NewLimiter(opts.MaxRate), version: opts.Version}
	if opts.Control == "" {
		return c, func() {}, nil
	}
	server, err := control.Listen(control.Config{Socket: opts.Control, Daemon: c, Log: log})
	if err != nil {
		return nil, nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	return c, func() {
		stop()
		if err := <-done; err != nil {
			log.Warn().Err(err).Msg("control socket ended")
		}
	}, nil
}

// Status implements control.Daemon.
func (c *copyControl) Status(context.Context) (control.Status, error) {
	m := c.migration.Load()
	s := control.Status{Phase: "copying", Active: "source", Version: c.version, Fallback: control.Fallback{State: "none"}, Verify: control.Verify{State: "idle"}}
	if m != nil {
		s.RunID, s.Copy = m.Task.Identity.Target.RunID, m.Rows.Copied()
		if s.Copy.TablesTotal == 0 && m.Task.Reached(journal.PhaseCopied) {
			s.Copy = m.Rows.Whole()
		}
	}
	s.Copy.MaxRateBytes = c.limit.Rate()
	s.Replication = control.Replication{State: "none", LagBytes: control.Unknown, LagMS: control.Unknown, RetainedWALBytes: control.Unknown, SafeWALBytes: control.Unknown, XminAge: control.Unknown}
	s.Blockers = []control.Blocker{{Code: "not_ready", Detail: "this is a one-shot copy, which nothing follows", Remedy: "begin with crossfade run to cut over"}}
	return s, nil
}

// Limits implements control.Daemon. There is no slot, and so no budget for one.
func (c *copyControl) Limits(_ context.Context, change control.LimitsChange) (control.Limits, error) {
	if change.WALBudgetBytes != nil {
		return control.Limits{}, control.Refused("a one-shot copy has no slot that could retain WAL", "leave --wal-budget out")
	}
	if change.MaxRateBytes != nil {
		c.limit.SetRate(*change.MaxRateBytes)
	}
	return control.Limits{MaxRateBytes: c.limit.Rate()}, nil
}

// Sessions implements control.Daemon.
func (c *copyControl) Sessions(context.Context) ([]control.Session, error) { return nil, nil }

// Cutover implements control.Daemon.
func (c *copyControl) Cutover(context.Context, control.CutoverOptions, func(control.Event)) (control.CutoverReport, error) {
	return control.CutoverReport{}, control.Refused("this is a one-shot copy, which nothing follows", "begin with crossfade run to cut over")
}

// Verify implements control.Daemon.
func (c *copyControl) Verify(context.Context) (control.VerifyReport, error) {
	return control.VerifyReport{}, control.Refused("this is a one-shot copy, which nothing follows", "when it has ended, compare with crossfade verify --source --target")
}

// StopVerify implements control.Daemon.
func (c *copyControl) StopVerify(context.Context) error {
	return control.Refused("no comparison is running that can be stopped", "crossfade status shows what runs")
}

// LastVerify implements control.Daemon.
func (c *copyControl) LastVerify() *control.VerifyReport { return nil }

// Finish implements control.Daemon.
func (c *copyControl) Finish(context.Context, control.FinishOptions) (control.FinishReport, error) {
	return control.FinishReport{}, control.Refused("this is a one-shot copy", "it ends by itself")
}
