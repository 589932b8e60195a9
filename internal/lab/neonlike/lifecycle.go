package neonlike

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/lab/pgcluster"
)

// SetWakeDelay says how long a compute that sleeps takes to wake, over what its
// start takes by itself. Neon's users measure 0.3 to 3 seconds.
func (e *Endpoint) SetWakeDelay(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.delay = d
}

// Suspend puts the compute to sleep as Neon does with an idle one:
// every session ends with 57P01, and unlogged tables lose their rows. The next
// login wakes it. Logins that come meanwhile wait.
func (e *Endpoint) Suspend(ctx context.Context) error {
	if err := e.takePower(ctx); err != nil {
		return err
	}
	defer e.givePower()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asleep {
		return nil
	}
	err := e.askLocked(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := e.readSecrets(ctx, conn, ""); err != nil {
			return err
		}
		return endSessions(ctx, conn)
	})
	if err != nil {
		return fmt.Errorf("end the sessions of the compute: %w", err)
	}
	e.asleep = true
	e.forgetLocked()
	// As after a crash: what is not logged is gone when it starts again.
	return e.cluster.Stop(ctx, pgcluster.Immediate)
}

// endSessions ends all other sessions and waits until their processes have gone.
func endSessions(ctx context.Context, conn *pgx.Conn) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var left int
		err := conn.QueryRow(ctx, `SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
			WHERE pid <> pg_catalog.pg_backend_pid() AND backend_type IN ('client backend', 'walsender')`).Scan(&left)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Asleep reports whether the compute is suspended.
func (e *Endpoint) Asleep() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asleep
}

// wake starts the compute where it sleeps, or where it ended by itself: Neon starts
// a compute that crashed. One that was stopped on purpose stays so, and woken is false.
func (e *Endpoint) wake(ctx context.Context) (woken bool, err error) {
	if !e.Asleep() && !e.cluster.Crashed() {
		return false, nil
	}
	if err := e.takePower(ctx); err != nil {
		return false, err
	}
	defer e.givePower()
	e.mu.Lock()
	asleep, delay := e.asleep, e.delay
	e.mu.Unlock()
	if !asleep && !e.cluster.Crashed() {
		return true, nil // by someone else
	}
	e.mu.Lock()
	e.asleep = true // until it takes logins, crashed or suspended
	e.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-timer.C:
	}
	if err := e.cluster.StartServer(ctx); err != nil {
		return false, err
	}
	e.mu.Lock()
	e.asleep = false
	e.mu.Unlock()
	return true, nil
}

func (e *Endpoint) takePower(ctx context.Context) error {
	select {
	case e.power <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Endpoint) givePower() { <-e.power }
