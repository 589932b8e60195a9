package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	direct    = "direct"
	crossfade = "crossfade"
	before    = "before" // an earlier build of this benchmark, given by -before
	pgbouncer = "pgbouncer"
	haproxy   = "haproxy"
)

func contenderNames() []string { return []string{direct, crossfade, pgbouncer, haproxy} }

// Bounds on the start and the end of a program that listens at once.
const (
	startTimeout = 20 * time.Second
	stopTimeout  = 5 * time.Second
)

// contender is what clients connect to: the server itself, or a proxy before it.
type contender struct {
	name string
	port int
	tls  bool      // its clients encrypt
	cmd  *exec.Cmd // nil for the server itself
	done chan struct{}
}

// start starts the proxy of that name before the server. Without a proxy the clients
// encrypt if a proxy would have to on at least one of its two sides.
func (f *field) start(ctx context.Context, name string, o options, l links) (*contender, error) {
	server := f.cluster.Port()
	if name == direct {
		return &contender{name: name, port: server, tls: l.client || l.server}, nil
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	var cmd *exec.Cmd
	switch name {
	case crossfade, before:
		self, err := o.before, error(nil)
		if name == crossfade {
			self, err = os.Executable()
		}
		if err != nil {
			return nil, err
		}
		args := append([]string{serveCommand, "-port", strconv.Itoa(port), "-server", strconv.Itoa(server), "-profile", o.profile, "-engine", o.engine}, f.proxyTLS(l)...)
		cmd = exec.CommandContext(ctx, self, args...)
	case pgbouncer:
		cmd, err = otherProgram(ctx, f.dir, name, f.pgbouncerConfig(port, server, o.pooled, l), func(f string) []string { return []string{"-q", f} })
	case haproxy:
		cmd, err = otherProgram(ctx, f.dir, name, haproxyConfig(port, server), func(f string) []string { return []string{"-db", "-q", "-f", f} })
	default:
		err = fmt.Errorf("nobody knows the contender %q", name)
	}
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &contender{name: name, port: port, tls: l.client, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		_ = cmd.Wait()
	}()
	if err := c.listens(ctx); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// listens waits until the proxy accepts connections.
func (c *contender) listens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-again.C:
		case <-c.done:
			return fmt.Errorf("%s ended at once", c.name)
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w", c.name, err)
		}
	}
}

func (c *contender) stop() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(stopTimeout):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// ticks is the CPU time that the proxy's process has used, in clock ticks of 10 ms.
func (c *contender) ticks() int {
	if c.cmd == nil {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(after)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// rss is the resident memory of the proxy's process, in bytes.
func (c *contender) rss() (int, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell the resident memory")
}

// otherProgram prepares a program that refuses to run as root, or should not.
func otherProgram(ctx context.Context, dir, name, config string, args func(file string) []string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			return nil, fmt.Errorf("%s is not installed", name)
		}
	}
	file := filepath.Join(dir, name+".cfg")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args(file)...)
	if os.Geteuid() == 0 {
		credential, err := somebody()
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	return cmd, nil
}

// somebody is an unprivileged user of this machine.
func somebody() (*syscall.Credential, error) {
	for _, name := range []string{"nobody", "postgres"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil && uid != 0 {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("there is no user nobody or postgres to run it as")
}

// pgbouncerConfig has a server connection used once (server_lifetime): else
// PgBouncer's runs would meet server processes with warm caches and mapped buffers,
// and all others new ones.
func (f *field) pgbouncerConfig(port, server int, pooled bool, l links) string {
	dir, lifetime, encrypted := f.dir, 0, "server_tls_sslmode = disable\n"
	if l.server {
		encrypted = "server_tls_sslmode = require\n"
	}
	if l.client {
		encrypted += fmt.Sprintf("client_tls_sslmode = require\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\n", f.cert, f.pgbouncerKey())
	}
	if pooled {
		lifetime = 3600
	}
	users := filepath.Join(dir, "users.txt")
	_ = os.WriteFile(users, []byte(`"postgres" ""`+"\n"), 0o644)
	return fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = session
default_pool_size = 150
server_lifetime = %d
max_client_conn = 2000
%slog_connections = 0
log_disconnections = 0
log_stats = 0
ignore_startup_parameters = extra_float_digits
`, server, port, users, lifetime, encrypted)
}

// proxyTLS are the arguments of Crossfade's proxy.
func (f *field) proxyTLS(l links) (args []string) {
	if l.client {
		args = append(args, "-cert", f.cert, "-key", f.key)
	}
	if l.server {
		args = append(args, "-encrypt")
	}
	return args
}

func haproxyConfig(port, server int) string {
	return fmt.Sprintf(`global
	maxconn 4000
	nbthread 1
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
listen postgres
	bind 127.0.0.1:%d
	server one 127.0.0.1:%d
`, port, server)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
