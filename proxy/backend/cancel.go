package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"crossfade/proxy/tlsconf"
	"crossfade/proxy/wire"
)

// Cancel asks the server to cancel the statement that runs on this connection, over a connection of
// its own to the same address, with TLS if this connection has TLS. It returns when the server has
// taken the request, at most after ten seconds; whether a statement was cancelled only the
// statement's own reply tells. Safe to call while the connection is in use.
func (c *Conn) Cancel(ctx context.Context) error {
	if len(c.Key) == 0 {
		return errors.New("cancel statement: the server gave no cancel key")
	}
	ctx, stop := context.WithTimeout(ctx, cancelTimeout)
	defer stop()
	if err := c.cancel(ctx); err != nil {
		return fmt.Errorf("cancel statement: %w", err)
	}
	return nil
}

func (c *Conn) cancel(ctx context.Context) error {
	to := c.cfg
	if !to.local() {
		to.Address = c.RemoteAddr().String() // not the name: it may lead to another server by now
	}
	raw, err := open(ctx, to)
	if err != nil {
		return err
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := raw
	if c.TLS() {
		t := c.cfg.TLS
		t.Mode = max(t.Mode, tlsconf.Require) // what this connection has, its cancel has too
		if conn, err = encrypted(ctx, raw, t, c.cfg.host()); err != nil {
			return err
		}
	}
	if _, err := conn.Write(wire.AppendCancel(nil, c.PID, c.Key)); err != nil {
		return err
	}
	// The server closes when it has dealt with the request; it says nothing.
	if _, err := io.CopyN(io.Discard, conn, 1); err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}
