package neonlike

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"crossfade/internal/lab/pgcluster"
)

// trusted are extensions of PostgreSQL's own that Neon lets customers install and plain
// PostgreSQL does not, with what their scripts do beyond.
var trusted = map[string]string{
	"autoinc": "", "bloom": "", "earthdistance": "", "insert_username": "", "intagg": "", "moddatetime": "", "pgrowlocks": "",
	"pgstattuple": "", "refint": "", "xml2": "",
	"dblink":             "GRANT USAGE ON FOREIGN DATA WRAPPER dblink_fdw TO neon_superuser;\n",
	"postgres_fdw":       "GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO neon_superuser;\n",
	"pg_stat_statements": "",
}

// trust makes a server program within dir that finds the extensions of b, some of them marked as
// trusted. A server looks for them at a place that its own path leads to. Where the
// programs are not laid out so, it returns b's own.
func trust(dir string, b pgcluster.Binaries) (program string, err error) {
	own := b.Path("postgres")
	root, ok := strings.CutSuffix(b.Dir, fmt.Sprintf("/lib/postgresql/%d/bin", b.Major))
	share := filepath.Join("share/postgresql", fmt.Sprint(b.Major))
	if st, err := os.Stat(filepath.Join(root, share, "extension")); !ok || err != nil || !st.IsDir() || b.Major < 13 {
		return own, nil
	}
	here := filepath.Join(dir, "server")
	bin := filepath.Join(here, "lib/postgresql", fmt.Sprint(b.Major), "bin")
	extensions := filepath.Join(here, share, "extension")
	err = errors.Join(os.MkdirAll(bin, 0o755), os.MkdirAll(extensions, 0o755))
	if err == nil {
		err = os.Symlink(filepath.Join(filepath.Dir(b.Dir), "lib"), filepath.Join(filepath.Dir(bin), "lib"))
	}
	if err == nil {
		err = errors.Join(link(filepath.Join(root, share), filepath.Join(here, share)), link(filepath.Join(root, share, "extension"), extensions))
	}
	if err == nil {
		err = copyProgram(own, filepath.Join(bin, "postgres"))
	}
	for name, more := range trusted {
		if err == nil {
			err = markTrusted(extensions, name, more)
		}
	}
	if err != nil {
		return "", fmt.Errorf("make a server that trusts extensions: %w", err)
	}
	return filepath.Join(bin, "postgres"), nil
}

// link makes links in to for what is in from and not yet there.
func link(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// markTrusted puts files of an extension's own in place of the links; one that is not installed
// stays so.
func markTrusted(dir, name, more string) error {
	if err := extend(filepath.Join(dir, name+".control"), "\ntrusted = true\n"); err != nil || more == "" {
		return err
	}
	scripts, err := filepath.Glob(filepath.Join(dir, name+"--*.sql"))
	if err != nil {
		return err
	}
	for _, s := range scripts {
		if version := strings.TrimPrefix(filepath.Base(s), name+"--"); strings.Contains(version, "--") {
			continue // leads from one version to another
		}
		if err := extend(s, "\n"+more); err != nil {
			return err
		}
	}
	return nil
}

func extend(file, more string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Remove(file)
	}
	if err == nil {
		err = os.WriteFile(file, append(text, more...), 0o644)
	}
	return err
}
