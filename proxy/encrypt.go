package proxy

import (
	"context"
	"errors"
	"io"
	"net"

	"crossfade/internal/pg"
	"crossfade/proxy/wire"
)

// encrypt answers a request for TLS and begins it; peeked means that the client has
// begun already.
func (x *stranger) encrypt(ctx context.Context, peeked []byte) error {
	if x.tls {
		return fatal(pg.CodeProtocolViolation, "encryption was asked for twice")
	}
	answer := byte('S')
	if x.p.cfg.TLS == nil {
		answer = 'N'
	}
	if peeked == nil {
		// Nothing was read behind the request: what follows is read through TLS.
		if _, err := x.conn.Write([]byte{answer}); err != nil {
			return err
		}
	}
	if answer == 'N' {
		return nil
	}
	raw := x.conn
	if peeked != nil {
		raw = &peekedConn{Conn: raw, peeked: peeked}
	}
	conn, binding, err := x.p.cfg.TLS.Handshake(ctx, raw, peeked != nil)
	if err != nil {
		return err
	}
	x.conn, x.certHash, x.tls = conn, binding, true
	return nil
}

// peekedConn yields bytes that were read ahead, then the connection's.
type peekedConn struct {
	net.Conn
	peeked []byte
}

func (c *peekedConn) Read(b []byte) (int, error) {
	if len(c.peeked) > 0 {
		n := copy(b, c.peeked)
		c.peeked = c.peeked[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// refuse tells the client why, where it can be told.
func (x *stranger) refuse(err error) {
	if errors.Is(err, io.EOF) || timedOut(err) {
		return
	}
	words := lastWords(err)
	var version *wire.VersionError
	switch {
	case errors.As(err, &version):
		words = fatal(pg.CodeFeatureNotSupported, "%s", version.Error())
	case words == nil:
		return
	}
	x.p.log.Info().Err(err).Stringer("client", x.conn.RemoteAddr()).Msg("client refused")
	farewell(x.conn, words)
}
