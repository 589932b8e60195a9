package backend_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/proxy/backend"
	"crossfade/proxy/wire"
)

// TestClassify holds the catalogue of what Neon's proxy says, in its own words.
func TestClassify(t *testing.T) {
	t.Parallel()
	neon := func(message string) error {
		return fmt.Errorf("log in: %w", &wire.ServerError{Severity: "ERROR", Code: "XX000", Message: message})
	}
	code := func(c string) error { return &wire.ServerError{Severity: "FATAL", Code: c, Message: "said"} }
	for want, errs := range map[backend.Class][]error{
		backend.Retry: {
			neon("Couldn't connect to compute node"), neon("Couldn't connect to compute node: connection refused"), neon("Control plane request failed"),
			neon("Authentication timed out"), neon("the database system is starting up"), neon("server conn crashed?"),
			code("57P01"), code("57P02"), code("57P03"), code("08006"), code("08000"), code("08001"), code("08003"), code("08004"),
			&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, &net.OpError{Op: "read", Err: syscall.ECONNRESET}, io.EOF,
			fmt.Errorf("TLS handshake: %w", io.ErrUnexpectedEOF), context.DeadlineExceeded, &net.DNSError{IsTemporary: true},
		},
		backend.BackOff: {
			neon("Failed to acquire permit to connect to the database. Too many database connection attempts are currently ongoing."),
			neon("Too many connections attempts"), neon("Too many connections to this endpoint. Please try again later."),
		},
		backend.Wait: {
			neon("Control plane request failed: endpoint is temporarily unavailable. Check your quotas and/or contact our support."),
			neon("remaining connection slots are reserved for roles with the SUPERUSER attribute"), neon("You have exceeded the limit of concurrently active endpoints"),
			neon("active endpoints limit exceeded"), code("53300"),
			&wire.ServerError{Code: "08P01", Message: "no more connections allowed (max_client_conn)"},
		},
		backend.Stop: {
			neon("password authentication failed for user 'u'"), neon("Endpoint ID is not specified. Either please upgrade the postgres client library"),
			neon("Inconsistent project name inferred from SNI ('a') and project option ('b')."), neon("Control plane request failed: endpoint cannot be found"),
			neon("Control plane request failed: endpoint is disabled"), neon("This IP address 192.0.2.1 is not allowed to connect to this endpoint."),
			neon("This connection is trying to access this endpoint from a blocked network."), neon("This VPC endpoint id vpce-1 is not allowed"),
			neon("unsupported startup parameter in options: search_path"), neon("connection is insecure (try using `sslmode=require`)"),
			neon("Your account or project has exceeded the compute time quota. Upgrade your plan to increase limits."), neon("something new"),
			code("28P01"), code("28000"), code("3D000"), code("42501"), &wire.ServerError{},
			&tls.CertificateVerificationError{Err: errors.New("x509")}, &net.DNSError{IsNotFound: true}, backend.ErrNoPassword, context.Canceled, errors.New("other"),
		},
	} {
		for _, err := range errs {
			require.Equal(t, want, backend.Classify(err), "%v", err)
		}
	}
	require.True(t, backend.PasswordRefused(&wire.ServerError{Code: "XX000", Message: "password authentication failed for user 'u'"}))
	require.True(t, backend.PasswordRefused(&wire.ServerError{Code: "28P01"}))
	require.False(t, backend.PasswordRefused(&wire.ServerError{Code: "28000", Message: "role \"u\" is not permitted to log in"}))
}
