package neonlike

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// relayBuffer is the size of a direction's buffer, in bytes: some frames of a
	// COPY, and little beside what TLS keeps.
	relayBuffer = 128 << 10
	// maxInspected is the size up to which a statement is inspected, in bytes. What
	// Neon refuses is short.
	maxInspected = 1 << 20
	// lingerTimeout bounds the wait for a client to take note that its session has
	// ended.
	lingerTimeout = 2 * time.Second
)

// run passes frames both ways until one side has ended, and then ends the other.
func (s *session) run(ctx context.Context) {
	defer s.close()
	var both sync.WaitGroup
	both.Go(func() {
		_ = s.toCompute(ctx)
		// What the compute said last is still to be read.
		_ = s.compute.(*net.UnixConn).CloseWrite()
	})
	both.Go(func() {
		_ = s.toClient()
		_ = s.client.(*tls.Conn).CloseWrite()
		_ = s.compute.Close()
		_ = s.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	})
	both.Wait()
	// A socket that is closed while bytes of the client are unread loses the last words.
	_, _ = io.Copy(io.Discard, s.client)
}

// pipe reads frames of one side and writes to the other what it collects.
type pipe struct {
	r *bufio.Reader
	w *bufio.Writer
}

func newPipe(from, to net.Conn) *pipe {
	return &pipe{r: bufio.NewReaderSize(from, relayBuffer), w: bufio.NewWriterSize(to, relayBuffer)}
}

// next returns the type and the body's size of the next frame. If it has to wait for that, it first
// sends what was collected.
func (p *pipe) next() (typ byte, size int64, err error) {
	if p.r.Buffered() < 5 {
		if err := p.w.Flush(); err != nil {
			return 0, 0, err
		}
	}
	head, err := p.r.Peek(5)
	if err != nil {
		return 0, 0, err
	}
	size = int64(binary.BigEndian.Uint32(head[1:])) - 4
	if size < 0 {
		return 0, 0, errors.New("frame of a length that is not allowed")
	}
	return head[0], size, nil
}

// pass forwards the frame to come as it is.
func (p *pipe) pass(size int64) error {
	_, err := io.CopyN(p.w, p.r, size+5)
	return err
}

// take reads the frame to come.
func (p *pipe) take() ([]byte, error) {
	_, body, err := readFrame(p.r, maxInspected)
	return body, err
}

func (p *pipe) put(frame []byte) error {
	_, err := p.w.Write(frame)
	return err
}

// toCompute forwards what the client sends, but for what the endpoint refuses.
func (s *session) toCompute(ctx context.Context) error {
	p := newPipe(s.client, s.compute)
	g := &guard{session: s}
	for {
		typ, size, err := p.next()
		if err != nil {
			return errors.Join(err, p.w.Flush())
		}
		var said *pgError
		switch {
		case typ == 'd':
			said = g.data(ctx, size)
			if said != nil {
				s.spoilt.add(said, g.simple)
				if err := p.put(frame('f', []byte("refused\x00"))); err != nil {
					return err
				}
			}
			err = p.pass(size) // a server that has ended its COPY passes over the rest
		case (typ == 'Q' || typ == 'P' || typ == 'B' || typ == 'C') && size <= maxInspected:
			var body []byte
			if body, err = p.take(); err == nil {
				if said = g.statement(ctx, typ, body); said != nil {
					s.spoilt.add(said, false)
					body = spoil(typ)
				}
				err = p.put(frame(typ, body))
			}
		default:
			err = p.pass(size)
		}
		if err != nil {
			return err
		}
		if typ == 'Q' || typ == 'S' || typ == 'F' {
			s.spoilt.asked()
		}
	}
}

// toClient forwards what the compute sends. An error that the front has provoked
// gets the words of the refusal.
func (s *session) toClient() error {
	p := newPipe(s.compute, s.client)
	for {
		typ, size, err := p.next()
		if err != nil {
			return errors.Join(err, p.w.Flush())
		}
		var said *pgError
		switch typ {
		case 'E':
			said = s.spoilt.take()
		case 'Z':
			s.spoilt.answered()
		}
		if said == nil || size > maxInspected {
			err = p.pass(size)
		} else if _, err = p.take(); err == nil {
			err = p.put(said.inSession())
		}
		if err != nil {
			return err
		}
	}
}
