package stream

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/obs"
	"crossfade/internal/base/pg"
	"crossfade/internal/base/retry"
)

// Reader reads the stream of one slot; see the package comment. Run is called
// once; the other methods are safe for concurrent use.
type Reader struct {
	cfg   Config
	log   zerolog.Logger
	out   chan *Part
	space chan struct{} // signalled when memory was released
	nudge chan struct{} // signalled when the source wants to hear of us

	inflight  atomic.Int64  // bytes handed out and not released
	confirmed atomic.Uint64 // durable on the target
	received  atomic.Uint64 // end of the last transaction received
	serverEnd atomic.Uint64 // the source's end of WAL as it last said
	heard     atomic.Int64  // when the source last said something, Unix µs
	blocked   atomic.Bool   // the receiving goroutine waits for memory
	connected atomic.Bool
	lost      atomic.Pointer[string] // why the last connection ended or was not made; nil while there is one, and before the first

	// Of the goroutine of Run only.
	emitted  pg.LSN // everything up to here was handed out
	lastIdle time.Time
}

// NewReader returns a Reader that has not connected yet.
func NewReader(cfg Config) (*Reader, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	r := &Reader{
		cfg: cfg, log: obs.Component(cfg.Logger, "stream"),
		out: make(chan *Part, queueLength), space: make(chan struct{}, 1), nudge: make(chan struct{}, 1),
		emitted: cfg.Start,
	}
	r.confirmed.Store(uint64(cfg.Start))
	r.received.Store(uint64(cfg.Start))
	return r, nil
}

// Parts gives the transactions in commit order. It is never closed.
func (r *Reader) Parts() <-chan *Part { return r.out }

// Confirm says that everything up to lsn is durable on the target and recorded
// there, so that the source may forget it. A smaller lsn than before is ignored.
func (r *Reader) Confirm(lsn pg.LSN) {
	for {
		old := r.confirmed.Load()
		if uint64(lsn) <= old {
			return
		}
		if r.confirmed.CompareAndSwap(old, uint64(lsn)) {
			return
		}
	}
}

// Confirmed returns the position that the source is told to be durable.
func (r *Reader) Confirmed() pg.LSN { return pg.LSN(r.confirmed.Load()) }

// ServerEnd returns the source's end of WAL as it last told; 0 before that.
func (r *Reader) ServerEnd() pg.LSN { return pg.LSN(r.serverEnd.Load()) }

// Connected reports whether replication runs at this moment.
func (r *Reader) Connected() bool { return r.connected.Load() }

// Lost says why the source cannot be read at this moment; "" while it is read, and before
// the first connection.
func (r *Reader) Lost() string {
	if why := r.lost.Load(); why != nil {
		return *why
	}
	return ""
}

// Run reads until ctx ends, whose error it returns then, or until an error that
// a new connection cannot fix.
func (r *Reader) Run(ctx context.Context) error {
	policy := r.cfg.Retry
	policy.OnRetry = func(a retry.Attempt) {
		r.log.Warn().Err(a.Err).Int(obs.KeyAttempt, a.Number).Msg("source connection lost")
	}
	broken := func(err error) { r.log.Warn().Err(err).Msg("source connection lost") }
	return retry.Sessions(ctx, policy, broken, func(ctx context.Context) (bool, error) {
		before := r.emitted
		err := r.session(ctx)
		if err != nil {
			why := err.Error()
			r.lost.Store(&why)
		}
		return r.emitted > before, err
	})
}

// session is one connection, from login to loss.
func (r *Reader) session(ctx context.Context) error {
	hijacked, err := r.open(ctx)
	if err != nil {
		return err
	}
	s := &receiver{Reader: r, dec: NewDecoder(), asm: assembler{limit: r.cfg.PartBytes}}
	err = r.replicate(ctx, hijacked, s)
	if s.partial {
		if voidErr := r.hand(ctx, &Part{Void: true}); voidErr != nil {
			return voidErr
		}
	}
	return classify(err)
}

// replicate runs one session's two goroutines and returns when both have ended.
func (r *Reader) replicate(ctx context.Context, hijacked *pgconn.HijackedConn, s *receiver) error {
	group, ctx := errgroup.WithContext(ctx)
	r.heard.Store(time.Now().UnixMicro())
	r.lost.Store(nil)
	r.connected.Store(true)
	defer r.connected.Store(false)
	ended, end := context.WithCancel(context.WithoutCancel(ctx))
	defer closeOnEnd(ended, hijacked.Conn)()
	group.Go(func() error {
		defer end() // after the last report, wake the receiver
		return r.feedback(ctx, hijacked.Conn)
	})
	group.Go(func() error { return s.receive(ctx, hijacked) })
	return group.Wait()
}

// hand queues a part, and waits while too much is handed out.
func (r *Reader) hand(ctx context.Context, p *Part) error {
	size := p.Size
	for {
		held := r.inflight.Load()
		if held == 0 || held+size <= r.cfg.MaxBytes {
			break
		}
		r.blocked.Store(true)
		select {
		case <-ctx.Done():
			r.blocked.Store(false)
			return ctx.Err()
		case <-r.space:
		}
	}
	r.inflight.Add(size)
	p.release = r.released
	r.blocked.Store(true)
	defer func() {
		r.heard.Store(time.Now().UnixMicro())
		r.blocked.Store(false)
	}()
	select {
	case r.out <- p:
		return nil
	case <-ctx.Done():
		r.inflight.Add(-size) // nobody will release it
		return ctx.Err()
	}
}

func (r *Reader) released(size int64) {
	r.inflight.Add(-size)
	select {
	case r.space <- struct{}{}:
	default:
	}
}
