package tlsconf

import (
	"context"
	"crypto"
	_ "crypto/sha256" // registers SHA-224 and SHA-256
	_ "crypto/sha512" // registers SHA-384 and SHA-512
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Server holds the certificate that the proxy shows to clients. Safe for concurrent use.
type Server struct {
	certFile, keyFile string
	clientCA          string // certificates of those who sign clients', "" to ask clients for none

	mu struct {
		sync.Mutex
		cert    *tls.Certificate
		binding []byte         // nil where the certificate has none
		clients *x509.CertPool // the signers of clients' certificates, nil for none
		stamp   stamp          // of the files that were read last, usable or not
		err     error          // why the last reading was refused
	}
}

type stamp struct{ cert, key, clientCA time.Time }

// LoadServer reads certificate and key, PEM files. The key file must not be readable by everybody.
func LoadServer(certFile, keyFile string) (*Server, error) {
	return LoadServerCA(certFile, keyFile, "")
}

// LoadServerCA is LoadServer for a server that also asks clients for a certificate. One that a
// client shows must be signed by one of clientCA, a PEM file, and be within its time; a client need
// not show one. Revocation lists are not read.
func LoadServerCA(certFile, keyFile, clientCA string) (*Server, error) {
	s := &Server{certFile: certFile, keyFile: keyFile, clientCA: clientCA}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readLocked(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handshake takes TLS from an accepted connection and returns it with the channel-binding hash of
// the certificate that it showed (nil where it has none). direct: the client began without
// SSLRequest and must ask for the ALPN protocol.
func (s *Server) Handshake(ctx context.Context, conn net.Conn, direct bool) (*tls.Conn, []byte, error) {
	cert, binding, clients := s.current()
	cfg := &tls.Config{
		Certificates: []tls.Certificate{*cert},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{Protocol},
		// A resumed handshake shows no certificate; clients of a database connect rarely enough.
		SessionTicketsDisabled: true,
		// Small records first are for browsers, which show a page as it comes.
		DynamicRecordSizingDisabled: true,
	}
	if clients != nil {
		cfg.ClientAuth, cfg.ClientCAs = tls.VerifyClientCertIfGiven, clients
	}
	t := tls.Server(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("accept TLS: %w", err)
	}
	if direct && t.ConnectionState().NegotiatedProtocol != Protocol {
		return nil, nil, errors.New("accept TLS: direct TLS without the ALPN protocol " + Protocol)
	}
	return t, binding, nil
}

// CommonName returns the name of the client's certificate that was verified in a handshake, "" for
// none. A certificate with several common names has none, so that it speaks for one user at most.
func CommonName(conn *tls.Conn) string {
	state := conn.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return ""
	}
	name, n := "", 0
	for _, a := range state.PeerCertificates[0].Subject.Names {
		if a.Type.Equal(commonName) {
			name, _ = a.Value.(string)
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return name
}

var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// Err says why the files as they are now are not in use: nil when they are.
func (s *Server) Err() error {
	s.current()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// current reads the files again if they changed.
func (s *Server) current() (*tls.Certificate, []byte, *x509.CertPool) {
	now, err := s.stat()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.mu.err, s.mu.stamp = err, stamp{} // read again once they are back
	case now != s.mu.stamp:
		s.mu.err = s.readLocked()
	}
	return s.mu.cert, s.mu.binding, s.mu.clients
}

func (s *Server) stat() (stamp, error) {
	c, err := os.Stat(s.certFile)
	if err != nil {
		return stamp{}, fmt.Errorf("read certificate: %w", err)
	}
	k, err := os.Stat(s.keyFile)
	if err != nil {
		return stamp{}, fmt.Errorf("read certificate key: %w", err)
	}
	if k.Mode().Perm()&0o007 != 0 {
		return stamp{}, fmt.Errorf("read certificate key: %s is open to everybody (mode %04o); chmod 600 it", s.keyFile, k.Mode().Perm())
	}
	at := stamp{cert: c.ModTime(), key: k.ModTime()}
	if s.clientCA != "" {
		ca, err := os.Stat(s.clientCA)
		if err != nil {
			return stamp{}, fmt.Errorf("read certificates of the clients' authority: %w", err)
		}
		at.clientCA = ca.ModTime()
	}
	return at, nil
}

func (s *Server) readLocked() error {
	at, err := s.stat()
	if err != nil {
		return err
	}
	s.mu.stamp = at
	cert, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	leaf := cert.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
	}
	binding, err := Binding(leaf)
	if err != nil {
		binding = nil // served without SCRAM-SHA-256-PLUS
	}
	var clients *x509.CertPool
	if s.clientCA != "" {
		if clients, err = readRoots(s.clientCA); err != nil {
			return err
		}
	}
	s.mu.cert, s.mu.binding, s.mu.clients = &cert, binding, clients
	return nil
}

// Binding returns the channel-binding data tls-server-end-point of a server's certificate (RFC 5929
// section 4).
func Binding(cert *x509.Certificate) ([]byte, error) {
	var h crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return nil, fmt.Errorf("certificate signature %s has no channel binding", cert.SignatureAlgorithm)
	}
	d := h.New()
	d.Write(cert.Raw)
	return d.Sum(nil), nil
}
