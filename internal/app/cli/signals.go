package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that the first SIGINT or SIGTERM ends. The second has its usual
// effect, however soon it comes: it ends the process. stop gives the signals back.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	stopped := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stopped:
				return
			case s := <-signals:
				if n == 0 {
					cancel()
					continue
				}
				signal.Reset(s)
				_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		cancel()
	}
}

// outliveReader makes writes to a pipe fail that is no longer read, instead of ending the process:
// for commands whose work matters more than their output. stop undoes that.
func outliveReader() (stop func()) {
	signals := make(chan os.Signal, 1) // ignoring the signal instead would be inherited by pg_dump
	signal.Notify(signals, syscall.SIGPIPE)
	return func() { signal.Stop(signals) }
}
