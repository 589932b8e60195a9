package main

import (
	"context"
	"crypto/tls"
	"flag"
	"net"
	"os"
	"strconv"

	"github.com/rs/zerolog"

	"crossfade/internal/lab/measure"
	"crossfade/proxy"
	"crossfade/proxy/auth"
	"crossfade/proxy/backend"
	"crossfade/proxy/tlsconf"
)

// serveCommand has this program be Crossfade's proxy and nothing else.
const serveCommand = "serve"

// serve is the proxy with one server at both ends, as the program makes it.
func serve(ctx context.Context, args []string) error {
	f := flag.NewFlagSet(serveCommand, flag.ContinueOnError)
	port := f.Int("port", 0, "port to listen on")
	server := f.Int("server", 0, "port of the server")
	profile := f.String("profile", "", "file for a CPU profile")
	cert := f.String("cert", "", "certificate for TLS")
	key := f.String("key", "", "its key")
	encrypt := f.Bool("encrypt", false, "encrypt the connections to the server")
	engine := f.String("engine", "on", "on or off")
	if err := f.Parse(args); err != nil {
		return err
	}
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	end := proxy.Endpoint{
		Dial:        backend.Config{Address: at(*server)},
		Credentials: func(user string) (string, string, bool) { return user, "", true },
	}
	if *encrypt {
		end.Dial.TLS = tlsconf.Client{Mode: tlsconf.Require, Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the server's certificate is the benchmark's own
	}
	cfg := proxy.Config{
		Listen: at(*port), Source: end, Target: end,
		Pumps: *engine != "on",
		Auth:  auth.NewUsers(auth.User{Name: "postgres", Secret: auth.Trust()}),
		Log:   zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	}
	if *cert != "" {
		var err error
		if cfg.TLS, err = tlsconf.LoadServer(*cert, *key); err != nil {
			return err
		}
	}
	p, err := proxy.New(cfg)
	if err != nil {
		return err
	}
	stop, err := measure.Profile(*profile)
	if err != nil {
		return err
	}
	defer stop()
	return p.Run(ctx)
}
