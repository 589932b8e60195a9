package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// warmUp is left out of every figure: new server processes read their catalogs first.
const warmUp = 2 * time.Second

// logTimeout bounds how long pgbench takes to its first transactions.
const logTimeout = 30 * time.Second

// runner is a pgbench -S through one contender. It stands still but for its slices.
type runner struct {
	c     *contender
	cmd   *exec.Cmd
	logs  string
	words bytes.Buffer
	done  chan struct{}
	spans []span
}

// span is a slice, after its beginning, when caches are filled again.
type span struct {
	resumed    time.Time
	begin, end time.Time
	ticks      int // CPU time of the proxy
}

// run starts pgbench, lets it get warm, and stops it.
func (b pgbench) run(ctx context.Context, c *contender, mode string, clients int) (*runner, error) {
	logs, err := os.MkdirTemp(b.dir, "log-")
	if err != nil {
		return nil, err
	}
	r := &runner{c: c, logs: logs, done: make(chan struct{})}
	r.cmd = b.command(ctx, c.port, c.tls, "-n", "-S", "-M", mode, "-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)),
		"-T", strconv.Itoa(int(time.Hour.Seconds())), "-l", "--log-prefix", filepath.Join(logs, "l"))
	r.cmd.Stdout, r.cmd.Stderr = &r.words, &r.words
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		_ = os.RemoveAll(logs)
		return nil, err
	}
	go func() {
		defer close(r.done)
		_ = r.cmd.Wait()
	}()
	if err = r.begins(ctx); err == nil {
		err = r.wait(ctx, warmUp)
	}
	if err == nil {
		err = r.signal(syscall.SIGSTOP)
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// begins waits for the first lines of the log.
func (r *runner) begins(ctx context.Context) error {
	last := time.Now().Add(logTimeout)
	for {
		files, err := filepath.Glob(filepath.Join(r.logs, "*"))
		for _, name := range files {
			if i, err := os.Stat(name); err == nil && i.Size() > 0 {
				return nil
			}
		}
		if err == nil && time.Now().After(last) {
			err = fmt.Errorf("pgbench through %s made no transaction within %s", r.c.name, logTimeout)
		}
		if err == nil {
			err = r.wait(ctx, 20*time.Millisecond)
		}
		if err != nil {
			return err
		}
	}
}

// wait lets pgbench run for d.
func (r *runner) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-r.done:
		return fmt.Errorf("pgbench through %s ended: %s", r.c.name, bytes.TrimSpace(r.words.Bytes()))
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *runner) signal(s os.Signal) error {
	if err := r.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("pgbench through %s: %w", r.c.name, err)
	}
	return nil
}

// settle is how long a slice runs before it counts.
const settle = 150 * time.Millisecond

// slice lets pgbench run for settle and d more. If counts is false, the slice is not
// measured and only makes pgbench, which writes its log in blocks, write the end of the slices before.
func (r *runner) slice(ctx context.Context, d time.Duration, counts bool) error {
	s := span{resumed: time.Now()}
	if err := r.signal(syscall.SIGCONT); err != nil {
		return err
	}
	if err := r.wait(ctx, settle); err != nil {
		return err
	}
	before := r.c.ticks()
	s.begin = time.Now()
	if err := r.wait(ctx, d); err != nil {
		return err
	}
	s.end = time.Now()
	s.ticks = r.c.ticks() - before
	if counts {
		r.spans = append(r.spans, s)
	}
	return r.signal(syscall.SIGSTOP)
}

// close ends pgbench.
func (r *runner) close() {
	_ = r.cmd.Process.Kill()
	<-r.done
	_ = os.RemoveAll(r.logs)
}

// shots are what was done in the slices. A transaction counts in the slice in which it
// ended, unless it had begun before that: it was stopped with pgbench.
func (r *runner) shots() ([]shot, error) {
	done, err := transactions(r.logs)
	if err != nil {
		return nil, err
	}
	shots := make([]shot, len(r.spans))
	for i, s := range r.spans {
		begin, end, resumed := s.begin.UnixMicro(), s.end.UnixMicro(), s.resumed.UnixMicro()
		for _, t := range done {
			if t.at > begin && t.at <= end && t.at-int64(t.took) >= resumed {
				shots[i].latencies = append(shots[i].latencies, t.took)
			}
		}
		if n := float64(len(shots[i].latencies)); n > 0 {
			shots[i].tps = n / s.end.Sub(s.begin).Seconds()
			shots[i].cpu = float64(s.ticks) * microsecondsPerTick / n
		}
	}
	return shots, nil
}
