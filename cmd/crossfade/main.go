// Command crossfade moves a live PostgreSQL database to Neon while its applications keep running.
package main

import (
	"os"

	"crossfade/internal/app/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
