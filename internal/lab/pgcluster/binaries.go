package pgcluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
)

// BinDirVariable names the environment variable that says where PostgreSQL's
// programs are.
const BinDirVariable = "CROSSFADE_PG_BINDIR"

// ErrNoBinaries says that no PostgreSQL server was found on this machine.
var ErrNoBinaries = errors.New("no PostgreSQL server found: install your system's PostgreSQL package (Debian, Ubuntu: apt-get install postgresql), or set " +
	BinDirVariable + " to the directory that holds initdb and postgres")

// Binaries is one set of PostgreSQL's programs.
type Binaries struct {
	Dir   string // absolute
	Major int    // of the server: 15 for 15.4
}

// Path returns the path of a program of this set, or of the one in PATH where
// the set lacks it.
func (b Binaries) Path(program string) string {
	p := filepath.Join(b.Dir, program)
	if isProgram(p) {
		return p
	}
	if q, err := exec.LookPath(program); err == nil {
		return q
	}
	return p
}

// Find returns the set of programs to use: the first place that has a server.
func Find() (Binaries, error) {
	if dir := os.Getenv(BinDirVariable); dir != "" {
		b, err := In(dir)
		if err != nil {
			return Binaries{}, fmt.Errorf("%s=%s: %w", BinDirVariable, dir, err)
		}
		return b, nil
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			if b, err := In(filepath.Dir(p)); err == nil {
				return b, nil
			}
		}
	}
	found := packaged()
	if len(found) == 0 {
		return Binaries{}, ErrNoBinaries
	}
	return found[0], nil
}

// All returns every set of programs on this machine, the newest first, that of
// Find included.
func All() []Binaries {
	sets := packaged()
	if b, err := Find(); err == nil {
		for _, s := range sets {
			if s.Dir == b.Dir {
				return sets
			}
		}
		sets = append(sets, b)
		sort.SliceStable(sets, func(i, j int) bool { return sets[i].Major > sets[j].Major })
	}
	return sets
}

func packaged() []Binaries {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well formed
	var sets []Binaries
	for _, d := range dirs {
		if b, err := In(d); err == nil {
			sets = append(sets, b)
		}
	}
	sort.Slice(sets, func(i, j int) bool { return sets[i].Major > sets[j].Major })
	return sets
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// In returns the set of programs in dir.
func In(dir string) (Binaries, error) {
	for _, p := range []string{"initdb", "postgres", "pg_ctl"} {
		if !isProgram(filepath.Join(dir, p)) {
			return Binaries{}, fmt.Errorf("no program %s in it", p)
		}
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask postgres for its version: %w", err)
	}
	m := versionPattern.FindSubmatch(out)
	if m == nil {
		return Binaries{}, fmt.Errorf("postgres --version says %q", out)
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return Binaries{}, fmt.Errorf("postgres --version says %q", out)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("resolve %s: %w", dir, err)
	}
	return Binaries{Dir: abs, Major: major}, nil
}

func isProgram(path string) bool {
	st, err := os.Stat(path)
	return err == nil && !st.IsDir() && st.Mode()&0o111 != 0
}

// HasLibrary reports whether the server of this set finds a loadable library, such as
// pg_cron, where Debian's packages put them. Elsewhere it may be there all the same.
func (b Binaries) HasLibrary(name string) bool {
	info, err := os.Stat(filepath.Join(filepath.Dir(b.Dir), "lib", name+".so"))
	return err == nil && info.Mode().IsRegular()
}
