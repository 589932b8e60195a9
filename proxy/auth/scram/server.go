package scram

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// ErrRefused is a proof that does not fit: wrong password or unknown user.
var ErrRefused = errors.New("SCRAM proof does not fit")

// ServerConfig is one exchange as the server sees it.
type ServerConfig struct {
	Verifier Verifier
	Plus     bool   // the client chose SCRAM-SHA-256-PLUS
	Binding  []byte // channel-binding hash of the certificate shown; not nil means that -PLUS was offered
	Mock     bool   // refuse at the end, whatever the proof
}

// Server is the server's end of one exchange. Call First, then Final. Not safe for concurrent use.
type Server struct {
	cfg         ServerConfig
	header      string // GS2 header of the client
	clientBare  string
	serverFirst string
	nonce       string
	clientKey   [sha256.Size]byte
	proven      bool
	newNonce    func() string
}

// NewServer begins an exchange.
func NewServer(c ServerConfig) *Server { return &Server{cfg: c, newNonce: newNonce} }

// First answers client-first-message with server-first-message.
func (s *Server) First(clientFirst []byte) ([]byte, error) {
	msg := string(clientFirst)
	bare, err := s.gs2(msg)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(bare, "m=") {
		return nil, errors.New("client requires an unsupported SCRAM extension")
	}
	values, err := attributes(bare, "nr") // not the user name: the start-up packet decides
	if err != nil {
		return nil, err
	}
	nonce := values[1]
	if !printable(nonce) {
		return nil, protocol("non-printable characters in nonce")
	}
	s.clientBare = bare
	s.nonce = nonce + s.newNonce()
	s.serverFirst = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce,
		base64.StdEncoding.EncodeToString(s.cfg.Verifier.Salt), s.cfg.Verifier.Iterations)
	return []byte(s.serverFirst), nil
}

// gs2 checks the header and returns what follows it.
func (s *Server) gs2(msg string) (bare string, err error) {
	flag, rest, ok := strings.Cut(msg, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	if !ok || !ok2 {
		return "", protocol("no GS2 header")
	}
	switch {
	case flag == "n" || flag == "y":
		if s.cfg.Plus {
			return "", protocol("SCRAM-SHA-256-PLUS without channel binding data")
		}
		if flag == "y" && s.cfg.Binding != nil {
			return "", errors.New("SCRAM channel binding negotiation error: " +
				"the client supports channel binding but thinks the server does not; this server does")
		}
	case strings.HasPrefix(flag, "p="):
		if !s.cfg.Plus {
			return "", protocol("channel binding without SCRAM-SHA-256-PLUS")
		}
		if flag != "p=tls-server-end-point" {
			return "", errors.New("unsupported SCRAM channel-binding type")
		}
	default:
		return "", protocol("unexpected channel-binding flag")
	}
	if authzid != "" {
		return "", errors.New("client uses authorization identity, but it is not supported")
	}
	s.header = msg[:len(msg)-len(bare)]
	return bare, nil
}

// Final checks client-final-message and answers with server-final-message. A proof that does not
// fit is ErrRefused.
func (s *Server) Final(clientFinal []byte) ([]byte, error) {
	if s.serverFirst == "" {
		return nil, protocol("final message before the first")
	}
	msg := string(clientFinal)
	at := strings.LastIndex(msg, ",p=")
	if at < 0 {
		return nil, protocol("no proof")
	}
	withoutProof := msg[:at]
	proof, err := base64.StdEncoding.DecodeString(msg[at+3:])
	if err != nil || len(proof) != sha256.Size {
		return nil, protocol("malformed proof")
	}
	values, err := attributes(withoutProof, "cr")
	if err != nil {
		return nil, err
	}
	binding, nonce := values[0], values[1]
	want := []byte(s.header)
	if s.cfg.Plus {
		want = append(want, s.cfg.Binding...)
	}
	if subtle.ConstantTimeCompare([]byte(binding), []byte(base64.StdEncoding.EncodeToString(want))) != 1 {
		return nil, errors.New("SCRAM channel binding check failed")
	}
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(s.nonce)) != 1 {
		return nil, protocol("nonce does not match")
	}
	authMessage := s.clientBare + "," + s.serverFirst + "," + withoutProof
	v := &s.cfg.Verifier
	var signature [sha256.Size]byte
	mac(&signature, v.StoredKey[:], authMessage)
	subtle.XORBytes(s.clientKey[:], proof, signature[:])
	stored := sha256.Sum256(s.clientKey[:])
	if !hmac.Equal(stored[:], v.StoredKey[:]) || s.cfg.Mock {
		s.clientKey = [sha256.Size]byte{}
		return nil, ErrRefused
	}
	s.proven = true
	mac(&signature, v.ServerKey[:], authMessage)
	return []byte("v=" + base64.StdEncoding.EncodeToString(signature[:])), nil
}

// Proven returns what the client proved to have, nil before a successful Final. The caller keeps it
// in memory only.
func (s *Server) Proven() *Proven {
	if !s.proven {
		return nil
	}
	v := &s.cfg.Verifier
	return &Proven{keys: Keys{ClientKey: s.clientKey, StoredKey: v.StoredKey, ServerKey: v.ServerKey}, salt: v.Salt, iterations: v.Iterations}
}
