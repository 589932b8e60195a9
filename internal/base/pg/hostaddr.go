package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// places makes cfg connect to the addresses of hostaddr, one for each of its hosts, and returns the
// first. The parameter of libpq says where to connect, while host still says whose certificate is
// expected and which name is sent along; the driver does not know it.
func places(cfg *pgx.ConnConfig, hostaddr string) (string, error) {
	type place struct {
		host string
		port uint16
	}
	list := []place{{cfg.Host, cfg.Port}}
	for _, f := range cfg.Fallbacks { // a host has a second entry where TLS may be tried and left
		if p := (place{f.Host, f.Port}); !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	addrs := strings.Split(hostaddr, ",")
	if len(addrs) != len(list) {
		return "", fmt.Errorf("could not match %d host names to %d hostaddr values", len(list), len(addrs))
	}
	known := map[string][]string{}
	for i, a := range addrs {
		if a == "" {
			continue // looked up by name
		}
		if _, err := netip.ParseAddr(a); err != nil {
			return "", errors.New("hostaddr is no numeric address")
		}
		known[list[i].host] = append(known[list[i].host], a)
	}
	lookup := cfg.LookupFunc
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if found := known[host]; len(found) > 0 {
			return found, nil
		}
		return lookup(ctx, host)
	}
	return addrs[0], nil
}
