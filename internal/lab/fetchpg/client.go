package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// releases are Debian's releases by the major version of their client.
var releases = map[int]string{15: "bookworm", 17: "trixie"}

// fetchClient unpacks a client of another release, with all the libraries that it
// needs, and puts a script before it that runs it with these.
func fetchClient(ctx context.Context, dir string, major int) (err error) {
	home := filepath.Join(dir, "client-"+strconv.Itoa(major))
	script := filepath.Join(home, "bin", "pg_dump")
	if _, err := os.Stat(script); err == nil {
		return nil
	}
	release := releases[major]
	if release == "" {
		return fmt.Errorf("no release with it is known")
	}
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	site, err := mirror(ctx, tmp)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "fetching the client of PostgreSQL %d\n", major)
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "root", "bin"} {
		if err := os.MkdirAll(filepath.Join(tmp, d), 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"sources.list": fmt.Sprintf("deb %s %s main\n", site, release),
		"status":       "", // nothing is installed there: every library is fetched too
	} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	apt := func(args ...string) error {
		_, err := output(ctx, tmp, "apt-get", append([]string{"-q", "-y",
			"-o", "Dir::Etc::SourceList=" + filepath.Join(tmp, "sources.list"), "-o", "Dir::Etc::SourceParts=/dev/null",
			"-o", "Dir::State=" + filepath.Join(tmp, "state"), "-o", "Dir::State::status=" + filepath.Join(tmp, "status"),
			"-o", "Dir::Cache=" + filepath.Join(tmp, "cache"), "-o", "APT::Sandbox::User=" + os.Getenv("USER"),
			"-o", "Debug::NoLocking=1"}, args...)...)
		return err
	}
	if err := apt("update"); err != nil {
		return err
	}
	if err := apt("install", "--no-install-recommends", "--download-only", "postgresql-client-"+strconv.Itoa(major)); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(tmp, "cache", "archives", "*.deb"))
	if err != nil {
		return err
	}
	for _, p := range packages {
		if _, err := output(ctx, tmp, "dpkg-deb", "-x", p, filepath.Join(tmp, "root")); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(home); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(home, "bin"), 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(tmp, "root"), filepath.Join(home, "root")); err != nil {
		return err
	}
	return writeScript(ctx, home, script, major)
}

// mirror is where this machine gets its packages.
func mirror(ctx context.Context, dir string) (string, error) {
	out, err := output(ctx, dir, "apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE)", "Created-By: Packages")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if origin, site, ok := strings.Cut(strings.TrimSpace(line), " "); ok && origin == "Debian" {
			return site, nil
		}
	}
	return "", errors.New("this machine has no mirror of Debian")
}

// writeScript runs the program with the loader and the libraries of its own system.
func writeScript(ctx context.Context, home, script string, major int) error {
	triple := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	lib := filepath.Join(home, "root", "usr", "lib", triple)
	loaders, err := filepath.Glob(filepath.Join(lib, "ld-linux-*.so.*"))
	if err != nil || len(loaders) == 0 {
		return fmt.Errorf("the packages hold no loader for %s", runtime.GOARCH)
	}
	program := filepath.Join(home, "root", "usr", "lib", "postgresql", strconv.Itoa(major), "bin", "pg_dump")
	text := fmt.Sprintf("#!/bin/sh\nexec '%s' --library-path '%s' '%s' \"$@\"\n", loaders[0], lib, program)
	if err := os.WriteFile(script+".new", []byte(text), 0o755); err != nil {
		return err
	}
	if _, err := output(ctx, home, script+".new", "--version"); err != nil {
		return err
	}
	return os.Rename(script+".new", script)
}
