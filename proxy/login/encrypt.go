package login

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"crossfade/internal/base/pg"
	"crossfade/proxy/ending"
	"crossfade/proxy/poll"
	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// encrypt answers a request for TLS and begins it; peeked means that the client has begun already.
func (x *pendingLogin) encrypt(ctx context.Context, peeked []byte) error {
	if x.tls || x.ssl {
		return ending.Fatal(pg.CodeProtocolViolation, "encryption was asked for twice")
	}
	x.ssl = true
	answer := byte('S')
	if x.p.cfg.TLS == nil {
		answer = 'N'
	}
	if peeked == nil {
		// Nothing was read after the request: everything that follows is read through TLS.
		if _, err := x.conn.Write([]byte{answer}); err != nil {
			return err
		}
	}
	if answer == 'N' {
		return nil
	}
	conn, binding, err := x.p.cfg.TLS.Handshake(ctx, poll.NewConn(x.conn, peeked), peeked != nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	x.conn, x.certHash, x.commonName, x.tls = conn, binding, tlsconf.CommonName(conn), true
	return nil
}

// errHandshake is a TLS handshake that failed: TLS has told the client so, and nothing else would
// be understood.
var errHandshake = errors.New("TLS handshake")

// refuse tells the client why, if it can be told. After a failed handshake TLS has already told it
// what was wrong.
func (x *pendingLogin) refuse(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, errHandshake) {
		return
	}
	words := ending.LastWords(err)
	var version *wire.VersionError
	switch {
	case errors.As(err, &version):
		words = ending.Fatal(pg.CodeFeatureNotSupported, "%s", version.Error())
	case poll.TimedOut(err) || errors.Is(err, context.DeadlineExceeded) && words.Code == pg.CodeConnectionFailure:
		if !x.spoke || x.base.Err() != nil {
			return
		}
		words = ending.Fatal(pg.CodeQueryCanceled, "canceling authentication due to timeout")
	case words == nil:
		return
	}
	x.p.Log.Info().Err(err).Stringer("client", x.conn.RemoteAddr()).Msg("client refused")
	ending.Farewell(x.conn, words)
}

// dismiss tells a client that its connection is closed to make room. It does not wait: there may be
// many of them.
func (x *pendingLogin) dismiss(words *wire.ServerError) {
	if x.p.cfg.TLS != nil && !x.tls {
		return // perhaps in the middle of a handshake
	}
	_ = x.conn.SetWriteDeadline(time.Now().Add(dismissTimeout))
	_, _ = x.conn.Write(wire.AppendError(nil, words))
}

// dismissTimeout bounds a write of some hundred bytes into a socket whose buffer is empty.
const dismissTimeout = 50 * time.Millisecond
