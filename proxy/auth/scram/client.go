package scram

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ClientConfig is one exchange as the client sees it.
type ClientConfig struct {
	Derive func(ctx context.Context, salt []byte, iterations int) (Keys, error) // from a password, or keys at hand
	// Plus: SCRAM-SHA-256-PLUS was chosen, with Binding the hash of the server's certificate.
	Plus    bool
	Binding []byte
	// CouldBind: the channel could be bound, but the server did not offer -PLUS. It tells the
	// server so, which then notices if someone removed its offer.
	CouldBind bool
}

// Client is the client's end of one exchange: First, Continue, Verify. Not safe for concurrent use.
type Client struct {
	cfg       ClientConfig
	nonce     string
	bare      string
	signature [sha256.Size]byte
	expecting bool
	newNonce  func() string
}

// NewClient begins an exchange.
func NewClient(c ClientConfig) *Client { return &Client{cfg: c, newNonce: newNonce} }

// Password derives the keys from a password with d, in owner's turn.
func Password(d *Deriver, owner, password string) func(context.Context, []byte, int) (Keys, error) {
	return func(ctx context.Context, salt []byte, iterations int) (Keys, error) {
		return d.Derive(ctx, owner, password, salt, iterations)
	}
}

// ErrOtherVerifier says that keys that a client proved to have are of another verifier than the
// server's: the password was changed on one side, or the salt differs.
var ErrOtherVerifier = errors.New("server has another verifier than the one that the client proved itself by")

// Proven is what a client that proved itself had: it logs in to any server that holds the identical
// verifier.
type Proven struct {
	keys       Keys
	salt       []byte
	iterations int
}

// Derive returns the keys if salt and count are those of the verifier.
func (p *Proven) Derive(_ context.Context, salt []byte, iterations int) (Keys, error) {
	if iterations != p.iterations || string(salt) != string(p.salt) {
		return Keys{}, ErrOtherVerifier
	}
	return p.keys, nil
}

// Format keeps the keys out of logs and error texts.
func (p *Proven) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[SCRAM keys]")) }

func (c *Client) header() string {
	switch {
	case c.cfg.Plus:
		return bindingHeader
	case c.cfg.CouldBind:
		return "y,,"
	}
	return "n,,"
}

// First is client-first-message. The user name stays empty: PostgreSQL takes it from the start-up
// packet.
func (c *Client) First() []byte {
	c.nonce = c.newNonce()
	c.bare = "n=,r=" + c.nonce
	return []byte(c.header() + c.bare)
}

// Continue answers server-first-message with client-final-message.
func (c *Client) Continue(ctx context.Context, serverFirst []byte) ([]byte, error) {
	msg := string(serverFirst)
	values, err := attributes(msg, "rsi")
	if err != nil {
		return nil, err
	}
	nonce, salt64, count := values[0], values[1], values[2]
	if c.nonce == "" || !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) || !printable(nonce) {
		return nil, protocol("server nonce does not begin with the client's")
	}
	salt, err := base64.StdEncoding.DecodeString(salt64)
	if err != nil || len(salt) == 0 {
		return nil, protocol("malformed salt")
	}
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < 1 {
		return nil, protocol("malformed iteration count")
	}
	if iterations > MaxIterations {
		return nil, protocol("server asks for %d iterations, the limit is %d", iterations, MaxIterations)
	}
	keys, err := c.cfg.Derive(ctx, salt, iterations)
	if err != nil {
		return nil, err
	}
	binding := []byte(c.header())
	if c.cfg.Plus {
		binding = append(binding, c.cfg.Binding...)
	}
	withoutProof := "c=" + base64.StdEncoding.EncodeToString(binding) + ",r=" + nonce
	authMessage := c.bare + "," + msg + "," + withoutProof
	var proof [sha256.Size]byte
	mac(&proof, keys.StoredKey[:], authMessage)
	subtle.XORBytes(proof[:], proof[:], keys.ClientKey[:])
	mac(&c.signature, keys.ServerKey[:], authMessage)
	c.expecting = true
	return []byte(withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof[:])), nil
}

// Verify checks server-final-message: it proves that the server knows the verifier.
func (c *Client) Verify(serverFinal []byte) error {
	if !c.expecting {
		return protocol("final message before the first")
	}
	if strings.HasPrefix(string(serverFinal), "e=") {
		return errors.New("server refused the SCRAM exchange")
	}
	values, err := attributes(string(serverFinal), "v")
	if err != nil {
		return err
	}
	got, err := base64.StdEncoding.DecodeString(values[0])
	if err != nil {
		return protocol("malformed server signature")
	}
	if !hmac.Equal(got, c.signature[:]) {
		return errors.New("server signature does not fit: this is not the server that knows the password")
	}
	return nil
}
