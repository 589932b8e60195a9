package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"crossfade/internal/lab/pgcluster"
)

// shot is what pgbench did in one slice.
type shot struct {
	tps       float64
	latencies []int32 // of each transaction, in microseconds
	cpu       float64 // of the proxy, in microseconds for each transaction
}

type pgbench struct {
	bin pgcluster.Binaries
	dir string
}

func (b pgbench) command(ctx context.Context, port int, encrypted bool, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.bin.Path("pgbench"), append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "postgres"}, append(args, "postgres")...)...)
	mode := "disable"
	if encrypted {
		mode = "require"
	}
	cmd.Env = append(os.Environ(), "PGSSLMODE="+mode, "PGGSSENCMODE=disable")
	return cmd
}

// fill makes pgbench's tables.
func (b pgbench) fill(ctx context.Context, port, scale int) error {
	out, err := b.command(ctx, port, false, "-i", "-q", "-s", strconv.Itoa(scale)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fill the tables: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

const microsecondsPerTick = 10000

// transaction is one line of pgbench's log, in microseconds.
type transaction struct {
	at   int64 // when it ended
	took int32
}

// transactions reads pgbench's logs.
func transactions(dir string) ([]transaction, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	var all []transaction
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := bytes.Fields(lines.Bytes())
			if len(fields) < 6 {
				continue
			}
			took, err1 := strconv.ParseInt(string(fields[2]), 10, 32)
			second, err2 := strconv.ParseInt(string(fields[4]), 10, 64)
			us, err3 := strconv.ParseInt(string(fields[5]), 10, 64)
			if err := errors.Join(err1, err2, err3); err != nil {
				_ = f.Close()
				return nil, fmt.Errorf("pgbench's log: %w", err)
			}
			all = append(all, transaction{at: second*1e6 + us, took: int32(took)})
		}
		_ = f.Close()
	}
	return all, nil
}
