package move

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/obs"
	"crossfade/proxy/route"
	"crossfade/proxy/session"
	"crossfade/proxy/state"
)

// Mover moves the sessions of a proxy to the other side: its verbs, Stage to Switch, run one at a
// time.
type Mover struct {
	sessions *session.Registry
	gate     *route.Gate
	cfg      Config

	verb chan struct{} // held by the verb that runs; guards attempt
	// attempt is the move under way.
	attempt struct {
		epoch      int64
		generation uint64 // of the gate that it closed
		paused     bool
		policy     Unmovable                 // for sessions that cannot be moved; "" is UnmovableAbort
		wait       time.Duration             // of UnmovableWait, in Stage
		catalogs   map[string]*state.Catalog // by database, as clients name it
		asked      time.Time                 // when the newest of them were read
		types      map[string]bool           // databases whose types were compared
	}
}

// Config says what a mover goes by.
type Config struct {
	Epoch  int64 // that made the active side active
	Closed bool  // the gate is closed at the beginning

	MaxCaptures, MaxDials int
	// Explain says what server processes of the source do, by their pg_backend_pid(); nil for none.
	Explain func(ctx context.Context, pids []int32) map[int32]string
}

// New makes one that has not moved anybody; the gate is closed where the configuration says so.
func New(cfg Config, sessions *session.Registry, gate *route.Gate) *Mover {
	p := &Mover{sessions: sessions, gate: gate, cfg: cfg, verb: make(chan struct{}, 1)}
	p.attempt.epoch = cfg.Epoch
	if cfg.Closed {
		p.attempt.generation, p.attempt.paused = gate.Close(), true
		p.sessions.HoldNew(true)
	}
	return p
}

// takeTurn waits for the verb that runs; the turn is given back by taking from verb.
func takeTurn(ctx context.Context, verb chan<- struct{}) error {
	select {
	case verb <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another step of the move: %w", ctx.Err())
	}
}

// begin takes the turn of the verbs and checks the epoch. An epoch that is newer
// than the last one starts a new attempt, which a paused one does not allow.
func (p *Mover) begin(ctx context.Context, epoch int64, what string) (end func(), err error) {
	if err := takeTurn(ctx, p.verb); err != nil {
		return nil, err
	}
	a := &p.attempt
	if epoch < a.epoch || epoch > a.epoch && a.paused && what != "switch" && what != "resume" {
		<-p.verb
		return nil, &EpochError{Asked: epoch, Now: a.epoch, What: what}
	}
	if epoch > a.epoch {
		a.epoch, a.catalogs, a.types, a.policy, a.wait = epoch, nil, nil, UnmovableAbort, 0
		p.sessions.Struck.Begin(true)
	}
	return func() { <-p.verb }, nil
}

// each runs do for every session as its owner, at most limit at a time (0: all at
// once). Sessions that end meanwhile are passed over.
func (p *Mover) each(ctx context.Context, list []*session.Session, limit int, do func(ctx context.Context, r *session.Session)) {
	var g errgroup.Group
	if limit > 0 {
		g.SetLimit(limit)
	}
	for _, r := range list {
		g.Go(func() error {
			defer p.sessions.Recovered(r)
			owned, release, err := r.Owner.Own(ctx)
			if err != nil {
				return nil
			}
			defer release()
			do(owned, r)
			return nil
		})
	}
	_ = g.Wait()
}

// catalogsOf returns what the database of each session says of custom settings,
// asking each database once in an attempt. Called with the verbs' turn.
func (p *Mover) catalogsOf(ctx context.Context, list []*session.Session) (map[string]*state.Catalog, error) {
	a := &p.attempt
	for _, r := range list {
		if _, ok := a.catalogs[r.Database]; ok {
			continue
		}
		a.asked = time.Now()
		var catalog *state.Catalog
		err := p.sessions.Sides.WithSideConnAmong(ctx, r.Database, p.sessions.Sides.Callers(r.Database, session.CallersOf(list)), func(ctx context.Context, l *state.Link) (err error) {
			catalog, err = l.ReadCatalog(ctx)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the names of custom settings of database %q: %w", r.Database, err)
		}
		lists.Put(&a.catalogs, r.Database, catalog)
	}
	return a.catalogs, nil
}

// open lets clients on at the side that is active.
func (p *Mover) open() {
	p.sessions.HoldAll(false)
	p.gate.Open(p.attempt.generation)
	p.attempt.paused = false
	p.sessions.Log.Info().Int64(obs.KeyEpoch, p.attempt.epoch).Str(obs.KeyEndpoint, p.sessions.Sides.Router.Current().Endpoint).Msg("gate opened")
}
