// Command install makes sure that this machine has PostgreSQL's server and
// client programs, which the demo and the tests run. It does nothing when they
// are there; else it installs them with the system's package manager. Programs that
// are named as arguments are installed too, if they can be had. It is run by make, and is no part of the program that users install.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := ensure(ctx, thisMachine()); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
	extras(ctx, thisMachine(), os.Args[1:])
}
