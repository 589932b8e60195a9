package control_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"crossfade/internal/app/control"
)

// asClient has the test's program ask for the status at this socket instead, for a test that needs
// a process of its own for it.
const asClient = "CONTROL_TEST_ASKS_AT"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asClient); socket != "" {
		if _, err := control.NewClient(socket).Status(context.Background()); err != nil {
			fmt.Fprint(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of these tests.
const patience = time.Minute

// daemon is a Daemon whose answers a test sets.
type daemon struct {
	mu       sync.Mutex
	status   control.Status
	err      error
	sessions []control.Session
	limits   control.Limits

	asked   chan control.CutoverOptions // told when a cutover begins
	cutover func(context.Context) (control.CutoverReport, error)
	steps   []control.Event // of each cutover
	finish  func(context.Context) (control.FinishReport, error)
	verify  func(context.Context) (control.VerifyReport, error)
	stopped chan struct{} // told when a comparison is stopped
	last    *control.VerifyReport
}

func (d *daemon) Verify(ctx context.Context) (control.VerifyReport, error) { return d.verify(ctx) }

func (d *daemon) StopVerify(context.Context) error {
	d.stopped <- struct{}{}
	return nil
}

func (d *daemon) LastVerify() *control.VerifyReport { return d.last }

func (d *daemon) Status(context.Context) (control.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status, d.err
}

func (d *daemon) set(st control.Status, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status, d.err = st, err
}

func (d *daemon) Sessions(context.Context) ([]control.Session, error) { return d.sessions, nil }

func (d *daemon) Cutover(ctx context.Context, opt control.CutoverOptions, show func(control.Event)) (control.CutoverReport, error) {
	d.asked <- opt
	for _, e := range d.steps {
		show(e)
	}
	return d.cutover(ctx)
}

func (d *daemon) Finish(ctx context.Context, _ control.FinishOptions) (control.FinishReport, error) {
	if d.finish != nil {
		return d.finish(ctx)
	}
	return control.FinishReport{}, &control.Error{Code: control.CodeRefused, Message: "the source is active", Remedy: "cut over first"}
}

func (d *daemon) Limits(_ context.Context, c control.LimitsChange) (control.Limits, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.MaxRateBytes != nil {
		d.limits.MaxRateBytes = *c.MaxRateBytes
	}
	if c.WALBudgetBytes != nil {
		d.limits.WALBudgetBytes = *c.WALBudgetBytes
	}
	return d.limits, nil
}

// serve runs a server until the test ends or stop is called.
func serve(t *testing.T, d *daemon, change ...func(*control.Config)) (s *control.Server, c *control.Client, stop func()) {
	t.Helper()
	cfg := control.Config{Socket: filepath.Join(t.TempDir(), "control"), Daemon: d, Log: zerolog.Nop()}
	for _, f := range change {
		f(&cfg)
	}
	s, err := control.Listen(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return s, control.NewClient(cfg.Socket), stop
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
