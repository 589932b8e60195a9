package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// idleCommand has this program be the clients of idle sessions: their memory is not
// the proxy's.
const idleCommand = "idle"

// settleTime is what the proxy gets to give memory back to the system before it is
// looked at: the runtime's own pace.
const settleTime = 10 * time.Second

// benchIdle prints what an idle session costs in the proxy's resident memory.
func benchIdle(ctx context.Context, o options) (err error) {
	o.contenders = []string{direct}
	f, err := set(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	fmt.Printf("%-10s %9s %12s %12s %14s\n", "sessions", "number", "RSS before", "RSS with", "KiB a session")
	for _, mode := range []string{"disable", "require"} {
		c, err := f.start(ctx, crossfade, o, links{client: true})
		if err != nil {
			return err
		}
		err = f.idle(ctx, c, mode, o.sessions)
		c.stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *field) idle(ctx context.Context, c *contender, sslmode string, n int) error {
	before, err := c.rss()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, idleCommand, "-port", strconv.Itoa(c.port), "-sslmode", sslmode, "-sessions", strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		return fmt.Errorf("open %d sessions: %w", n, err)
	}
	select {
	case <-time.After(settleTime):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := c.rss()
	if err != nil {
		return err
	}
	name := "plaintext"
	if sslmode != "disable" {
		name = "TLS"
	}
	fmt.Printf("%-10s %9d %8.1f MiB %8.1f MiB %14.1f\n", name, n, float64(before)/(1<<20), float64(after)/(1<<20), float64(after-before)/1024/float64(n))
	return nil
}

// holdIdle opens sessions, has each do a query, says so by a byte and holds them until its input ends.
func holdIdle(ctx context.Context, args []string) error {
	f := flag.NewFlagSet(idleCommand, flag.ContinueOnError)
	port := f.Int("port", 0, "port to connect to")
	sslmode := f.String("sslmode", "disable", "libpq's sslmode")
	n := f.Int("sessions", 1000, "how many")
	if err := f.Parse(args); err != nil {
		return err
	}
	conns := make([]*pgx.Conn, *n)
	var g errgroup.Group
	g.SetLimit(32)
	for i := range conns {
		g.Go(func() (err error) {
			conns[i], err = pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=%s", *port, *sslmode))
			if err == nil {
				_, err = conns[i].Exec(ctx, "SELECT 1")
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Print(".")
	_, _ = io.Copy(io.Discard, os.Stdin)
	for _, c := range conns {
		_ = c.Close(ctx)
	}
	return nil
}

// certificate writes a self-signed certificate and its key.
func certificate(dir string) (cert, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", "", err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return cert, key, err
}
