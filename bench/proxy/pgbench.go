package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"crossfade/internal/pgcluster"
)

// shot is one run of pgbench.
type shot struct {
	tps       float64
	latencies []int32 // of each transaction, in microseconds
	cpu       float64 // of the proxy, in microseconds for each transaction
}

type pgbench struct {
	bin pgcluster.Binaries
	dir string
}

func (b pgbench) command(ctx context.Context, port int, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.bin.Path("pgbench"), append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "postgres"}, append(args, "postgres")...)...)
	cmd.Env = append(os.Environ(), "PGSSLMODE=disable", "PGGSSENCMODE=disable")
	return cmd
}

// fill makes pgbench's tables.
func (b pgbench) fill(ctx context.Context, port, scale int) error {
	out, err := b.command(ctx, port, "-i", "-q", "-s", strconv.Itoa(scale)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fill the tables: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// shoot runs pgbench -S through the contender once.
func (b pgbench) shoot(ctx context.Context, c *contender, mode string, clients int, length time.Duration) (shot, error) {
	logs, err := os.MkdirTemp(b.dir, "log-")
	if err != nil {
		return shot{}, err
	}
	defer os.RemoveAll(logs)
	before := c.ticks()
	cmd := b.command(ctx, c.port, "-n", "-S", "-M", mode, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)),
		"-T", strconv.Itoa(int(length.Seconds())), "-l", "--log-prefix", filepath.Join(logs, "l"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return shot{}, fmt.Errorf("pgbench through %s: %w: %s", c.name, err, bytes.TrimSpace(out))
	}
	used := c.ticks() - before
	s := shot{}
	for line := range strings.Lines(string(out)) {
		if rest, ok := strings.CutPrefix(line, "tps = "); ok {
			number, _, _ := strings.Cut(rest, " ")
			if s.tps, err = strconv.ParseFloat(number, 64); err != nil {
				return shot{}, fmt.Errorf("pgbench's tps: %w", err)
			}
		}
	}
	if s.latencies, err = latencies(logs); err != nil {
		return shot{}, err
	}
	if n := len(s.latencies); n > 0 {
		s.cpu = float64(used) * 10000 / float64(n)
	}
	return s, nil
}

// latencies reads the third column of pgbench's logs.
func latencies(dir string) ([]int32, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	var all []int32
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := bytes.Fields(lines.Bytes())
			if len(fields) < 3 {
				continue
			}
			us, err := strconv.ParseInt(string(fields[2]), 10, 32)
			if err != nil {
				_ = f.Close()
				return nil, fmt.Errorf("pgbench's log: %w", err)
			}
			all = append(all, int32(us))
		}
		_ = f.Close()
	}
	return all, nil
}
