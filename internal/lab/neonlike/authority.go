package neonlike

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"
)

// certLifetime is longer than any test or demo, and short enough for a key that
// nobody guards.
const certLifetime = 48 * time.Hour

// identity is the certificate of a front, of an authority of its own.
type identity struct {
	cert    tls.Certificate
	binding []byte // what tls-server-end-point binds to (RFC 5929 4.1): the certificate is signed with SHA-256
}

// newIdentity makes an authority and a certificate for every host below domain,
// and writes the authority's own certificate to rootFile.
func newIdentity(domain, rootFile string) (*identity, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	ca := template("local likeness authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := sign(ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	leaf := template("*." + domain)
	leaf.DNSNames = []string{"*." + domain}
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := sign(leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	if err := os.WriteFile(rootFile, root, 0o600); err != nil {
		return nil, fmt.Errorf("write authority: %w", err)
	}
	sum := sha256.Sum256(der)
	return &identity{cert: tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}, binding: sum[:]}, nil
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // never fails since Go 1.24
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLifetime), SignatureAlgorithm: x509.ECDSAWithSHA256}
}

func sign(cert, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, public, by)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}

// config is what the front shows to clients.
func (i *identity) config() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{i.cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{alpn}, SessionTicketsDisabled: true}
}
