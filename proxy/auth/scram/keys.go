package scram

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

const (
	// DefaultIterations is PostgreSQL's default of scram_iterations.
	DefaultIterations = 4096
	// MaxIterations bounds what a server may make a client compute, and what a verifier may ask
	// for: about a quarter of a second of one core.
	MaxIterations = 1_000_000

	// cachedKeys is the number of derivations that are remembered. A proxy logs in with a few
	// roles, over and over.
	cachedKeys = 256
)

// Keys are what SCRAM derives from a password.
type Keys struct {
	ClientKey [sha256.Size]byte
	StoredKey [sha256.Size]byte
	ServerKey [sha256.Size]byte
}

// Deriver computes Keys, a bounded number at once, and remembers the last ones: one PBKDF2 is about
// a millisecond of CPU and a cutover logs in a thousand times. Owners that wait are served in
// turns, so that none of them can keep the others out by asking for much. Safe for concurrent use;
// no lock is held while it computes.
type Deriver struct {
	turns turns
	mask  [sha256.Size]byte // keys the cache, so that it holds no password

	mu    sync.Mutex
	cache map[[sha256.Size]byte]Keys
}

// NewDeriver allows that many computations at once; 0 means half of the processors.
func NewDeriver(parallel int) *Deriver {
	if parallel <= 0 {
		parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	d := &Deriver{turns: turns{free: parallel, queues: map[string][]chan struct{}{}}, cache: make(map[[sha256.Size]byte]Keys)}
	_, _ = rand.Read(d.mask[:]) // never fails since Go 1.24
	return d
}

// Derive computes the keys of a password. It waits for its owner's turn until ctx ends; owner is
// whom the work is for, an address or a user.
func (d *Deriver) Derive(ctx context.Context, owner, password string, salt []byte, iterations int) (Keys, error) {
	if iterations < 1 || iterations > MaxIterations {
		return Keys{}, fmt.Errorf("iteration count %d is not between 1 and %d", iterations, MaxIterations)
	}
	password = Prep(password)
	id := d.id(password, salt, iterations)
	if k, ok := d.cached(id); ok {
		return k, nil
	}
	if err := d.turns.take(ctx, owner); err != nil {
		return Keys{}, fmt.Errorf("wait for a SCRAM derivation: %w", err)
	}
	defer d.turns.give()
	if k, ok := d.cached(id); ok { // someone else was computing the same
		return k, nil
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return Keys{}, fmt.Errorf("derive SCRAM keys: %w", err)
	}
	var k Keys
	mac(&k.ClientKey, salted, "Client Key")
	k.StoredKey = sha256.Sum256(k.ClientKey[:])
	mac(&k.ServerKey, salted, "Server Key")
	clear(salted)
	d.remember(id, k)
	return k, nil
}

func (d *Deriver) id(password string, salt []byte, iterations int) (id [sha256.Size]byte) {
	h := hmac.New(sha256.New, d.mask[:])
	var n [16]byte
	binary.BigEndian.PutUint64(n[:], uint64(iterations))
	binary.BigEndian.PutUint64(n[8:], uint64(len(salt)))
	h.Write(n[:])
	h.Write(salt)
	h.Write([]byte(password))
	h.Sum(id[:0])
	return id
}

func (d *Deriver) cached(id [sha256.Size]byte) (Keys, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, ok := d.cache[id]
	return k, ok
}

func (d *Deriver) remember(id [sha256.Size]byte, k Keys) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.cache) >= cachedKeys {
		for old := range d.cache { // any one: a miss costs a millisecond
			delete(d.cache, old)
			break
		}
	}
	d.cache[id] = k
}

func mac[T string | []byte](dst *[sha256.Size]byte, key []byte, msg T) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(msg))
	h.Sum(dst[:0])
}

// Names of the mechanisms.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// bindingHeader is the GS2 header of a client that binds the channel.
const bindingHeader = "p=tls-server-end-point,,"

// ErrProtocol is wrapped by every error about a message that is not SCRAM as PostgreSQL speaks it.
var ErrProtocol = errors.New("malformed SCRAM message")

func protocol(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, a...)...)
}

// attributes are the values of "k=value" at the front of s for each of these keys, with commas
// between them.
func attributes(s, keys string) (values []string, err error) {
	for _, key := range []byte(keys) {
		if len(s) < 2 || s[0] != key || s[1] != '=' {
			return nil, protocol("attribute %q expected", key)
		}
		value, rest, _ := strings.Cut(s[2:], ",")
		values, s = append(values, value), rest
	}
	return values, nil
}

// printable is the alphabet of a nonce.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e || r == ',' })
}

func newNonce() string {
	var b [18]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return base64.StdEncoding.EncodeToString(b[:])
}

// Prep normalises a password with SASLprep (RFC 4013). As in PostgreSQL, ASCII is taken unchanged,
// and so is a password that is not UTF-8 or that SASLprep refuses.
func Prep(password string) string {
	beyond := strings.ContainsFunc(password, func(r rune) bool { return r >= utf8.RuneSelf })
	if !beyond || !utf8.ValidString(password) {
		return password
	}
	out, err := stringprep.SASLprep.Prepare(password)
	if err != nil || out == "" {
		return password
	}
	return out
}
