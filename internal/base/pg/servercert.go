package pg

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// CertificateError says why a server's certificate was not believed.
type CertificateError struct {
	Host   string // the name that the connection string gives
	Roots  string // the file with authorities, or a phrase for the system's
	Issuer string // of the certificate
	Names  []string
	Cause  error // nil where only the name does not fit
}

func (e *CertificateError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("the server certificate of %s, issued by %q, is not good by the authorities in %s: %v", e.Host, e.Issuer, e.Roots, e.Cause)
	}
	names := "no name"
	if len(e.Names) > 0 {
		names = strings.Join(e.Names, ", ")
	}
	return fmt.Sprintf("the server certificate is for %s and does not match host name %s; it was issued by %q and is good by the authorities in %s", names, e.Host, e.Issuer, e.Roots)
}

func (e *CertificateError) Unwrap() error { return e.Cause }

func (e *CertificateError) remedy() string {
	var unknown x509.UnknownAuthorityError
	switch {
	case e.Cause == nil:
		return "name the host as the certificate does, with its address in hostaddr if need be; sslmode=verify-ca looks at no name"
	case errors.As(e.Cause, &unknown) && e.Roots == systemRoots:
		return "name the file with the certificate of that authority: sslrootcert"
	case errors.As(e.Cause, &unknown):
		return "name the file with the certificate of that authority in sslrootcert, or the system's authorities: sslrootcert=system"
	}
	return "have the server's certificate replaced"
}

const systemRoots = "the system's store"

// verifier checks the certificates of one host as libpq does: the chain in sslmode=verify-ca, or
// with any sslmode that speaks TLS where there is a root certificate; the host's name too in
// verify-full. Go's own verification does not take certificates whose only name is the common name.
type verifier struct {
	host     string
	roots    *x509.CertPool // nil for the system's
	rootFile string         // for errors
	name     bool           // the name is verified too
}

func (v verifier) verify(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	leaf := s.PeerCertificates[0]
	opts := x509.VerifyOptions{Roots: v.roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	e := &CertificateError{Host: v.host, Roots: v.rootFile, Issuer: leaf.Issuer.String()}
	if _, err := leaf.Verify(opts); err != nil {
		e.Cause = err
		return e
	}
	if v.name && !namesOf(leaf, v.host, &e.Names) {
		return e
	}
	return nil
}

// namesOf reports whether a certificate is for a host, and lists its names as far as they count.
// The common name counts only where no alternative name is of the host's kind, address or name
// (libpq since PostgreSQL 15).
func namesOf(c *x509.Certificate, host string, names *[]string) bool {
	addr, err := netip.ParseAddr(host)
	isAddress := err == nil
	found := false
	for _, n := range c.DNSNames {
		*names = append(*names, n)
		found = found || nameMatches(n, host)
	}
	for _, ip := range c.IPAddresses {
		*names = append(*names, ip.String())
		if a, ok := netip.AddrFromSlice(ip); ok && isAddress {
			found = found || a.Unmap() == addr.Unmap()
		}
	}
	ofKind := len(c.DNSNames)
	if isAddress {
		ofKind = len(c.IPAddresses)
	}
	if cn := c.Subject.CommonName; ofKind == 0 && cn != "" {
		*names = append(*names, cn)
		found = found || nameMatches(cn, host)
	}
	return found
}

// nameMatches compares a certificate's name with a host's: without regard to case, and "*." at the
// beginning matches one label.
func nameMatches(pattern, host string) bool {
	if strings.IndexByte(pattern, 0) >= 0 {
		return false
	}
	if strings.EqualFold(pattern, host) {
		return true
	}
	suffix, wild := strings.CutPrefix(pattern, "*")
	if !wild || !strings.HasPrefix(suffix, ".") || len(suffix) < 2 || len(host) <= len(suffix) {
		return false
	}
	label := host[:len(host)-len(suffix)]
	return !strings.Contains(label, ".") && strings.EqualFold(host[len(label):], suffix)
}

// readRoots reads the authorities that count: a file, the system's, or the file of libpq's default
// place. file is "" where nothing asks for a verification.
func (s *settings) readRoots(env environment) (file string, roots *x509.CertPool, err error) {
	file = cmp.Or(s.get("sslrootcert"), env.inHome(".postgresql", "root.crt"))
	switch {
	case file == "system":
		roots, err = x509.SystemCertPool()
		return systemRoots, roots, Wrap(err, "sslrootcert=system")
	case file == "":
		if m := s.get("sslmode"); m == "verify-ca" || m == "verify-full" {
			return systemRoots, nil, nil
		}
		return "", nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return "", nil, fmt.Errorf("root certificate file %q: %w; name one that is there, or sslrootcert=system", file, withoutPath(err))
	}
	roots = x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return "", nil, fmt.Errorf("root certificate file %q has no certificate in PEM form", file)
	}
	return file, roots, nil
}

var tlsVersions = map[string]uint16{"tlsv1": tls.VersionTLS10, "tlsv1.1": tls.VersionTLS11, "tlsv1.2": tls.VersionTLS12, "tlsv1.3": tls.VersionTLS13}

// tlsVersion reads a version of TLS as libpq writes it, in any case.
func tlsVersion(s string) (version uint16, ok bool) {
	version, ok = tlsVersions[strings.ToLower(s)]
	return version, ok
}

// secured makes a host's TLS configuration verify what the settings ask for.
func (s *settings) secured(t *tls.Config, host, rootFile string, roots *x509.CertPool) *tls.Config {
	if t == nil {
		return nil
	}
	t = t.Clone()
	t.InsecureSkipVerify = true // what is verified is verified below
	t.VerifyPeerCertificate, t.RootCAs = nil, roots
	t.MinVersion = tls.VersionTLS12
	if v, ok := tlsVersion(s.get("ssl_min_protocol_version")); ok {
		t.MinVersion = v
	}
	if v, ok := tlsVersion(s.get("ssl_max_protocol_version")); ok {
		t.MaxVersion = v
	}
	if rootFile != "" {
		t.VerifyConnection = verifier{host: host, roots: roots, rootFile: rootFile, name: s.get("sslmode") == "verify-full"}.verify
	}
	return t
}
