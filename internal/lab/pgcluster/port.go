package pgcluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are chosen below the range from which Linux takes the local ends of connections
// (net.ipv4.ip_local_port_range begins at 32768): a server that is restarted finds its port free,
// whichever ports connections took meanwhile.
const (
	firstPort = 10240
	lastPort  = 32767
	// portTries bounds the search; the range is all but empty.
	portTries = 100
)

// FreePort returns a TCP port of 127.0.0.1 on which nobody listens at this moment.
func FreePort() (int, error) {
	var last error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("look for a free port: %w", last)
}
