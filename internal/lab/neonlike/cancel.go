package neonlike

import (
	"context"
	"crypto/rand"
	"io"
	"net"
	"sync"
	"time"
)

// cancelTimeout bounds a cancel request on its way to the compute, which is on this
// machine.
const cancelTimeout = 10 * time.Second

// key is what a client has to cancel with: eight random bytes, which tell nothing
// of the backend's process.
type key [8]byte

// keys maps what clients have to what computes gave.
type keys struct {
	mu    sync.Mutex
	known map[key]cancelTarget
}

type cancelTarget struct {
	socket string
	body   []byte // pid and key of the compute
}

func (k *keys) add(t cancelTarget) key {
	var id key
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = map[key]cancelTarget{}
	}
	k.known[id] = t
	return id
}

func (k *keys) remove(id key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.known, id)
}

// cancel hands a cancel request on. One with a key that is not known does nothing.
func (k *keys) cancel(ctx context.Context, body []byte) {
	if len(body) != len(key{}) {
		return
	}
	k.mu.Lock()
	t, ok := k.known[key(body)]
	k.mu.Unlock()
	if !ok {
		return
	}
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", t.socket)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(cancelTimeout))
	if _, err := conn.Write(frame(0, word(codeCancel), t.body)); err == nil {
		_, _ = io.Copy(io.Discard, conn) // the compute closes when it has dealt with it
	}
}
