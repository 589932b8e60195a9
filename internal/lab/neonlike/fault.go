package neonlike

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// faults are what goes wrong on request.
type faults struct {
	mu     sync.Mutex
	fails  int
	says   string
	limit  int64 // bytes, 0 for none
	atFull *pgError
}

// FailNext makes the next n logins fail with a message of Neon's proxy, after the
// client has proved who it is. n of 0 lifts it.
func (e *Endpoint) FailNext(n int, message string) {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.fails, e.faults.says = n, message
}

func (f *faults) login() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails <= 0 {
		return ""
	}
	f.fails--
	return f.says
}

// SetSizeLimit makes statements that need room fail once the databases take this
// many MB, as a project's limit does. New sessions see it as neon.max_cluster_size.
// 0 lifts it.
func (e *Endpoint) SetSizeLimit(ctx context.Context, mb int) error {
	shown := "-1"
	if mb > 0 {
		shown = fmt.Sprintf("%dMB", mb)
	}
	err := e.ask(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "ALTER ROLE ALL SET neon.max_cluster_size = '"+shown+"'")
		return err
	})
	if err != nil {
		return fmt.Errorf("show the size limit: %w", err)
	}
	e.setLimit(int64(mb)<<20, &pgError{code: "53100",
		message: fmt.Sprintf("could not extend file because project size limit (%d MB) has been exceeded", mb),
		hint:    "This limit is defined externally by the project size limit, and internally by neon.max_cluster_size GUC"})
	return nil
}

// SetDiskSize makes statements that need room fail once the databases take this many bytes, as a
// full disk under plain PostgreSQL does. 0 lifts it.
func (e *Endpoint) SetDiskSize(bytes int64) {
	e.setLimit(bytes, &pgError{code: "53100",
		message: `could not extend file "base/16384/16385": No space left on device`, hint: "Check free disk space."})
}

func (e *Endpoint) setLimit(bytes int64, at *pgError) {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.limit, e.faults.atFull = bytes, at
}

// full returns the error of a full disk, nil while there is room. That the size
// cannot be read now means that there is.
func (e *Endpoint) full(ctx context.Context) *pgError {
	e.faults.mu.Lock()
	limit, said := e.faults.limit, e.faults.atFull
	e.faults.mu.Unlock()
	if limit <= 0 {
		return nil
	}
	if size, err := e.Size(ctx); err != nil || size < limit {
		return nil
	}
	return said
}
