package proxy

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"crossfade/internal/obs"
	"crossfade/proxy/session"
)

// begin takes the turn of the verbs and checks the epoch. An epoch that is newer
// than the last one starts a new attempt, which a paused one does not allow.
func (p *Proxy) begin(ctx context.Context, epoch int64, what string) (end func(), err error) {
	select {
	case p.verb <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another step of the move: %w", ctx.Err())
	}
	a := &p.attempt
	if epoch < a.epoch || epoch > a.epoch && a.paused && what != "switch" && what != "resume" {
		<-p.verb
		return nil, &EpochError{Asked: epoch, Now: a.epoch, What: what}
	}
	if epoch > a.epoch {
		a.epoch, a.catalogs, a.types, a.policy, a.wait = epoch, nil, nil, UnmovableAbort, 0
		p.struck.begin(true)
	}
	return func() { <-p.verb }, nil
}

// other returns the endpoint that is not active.
func (p *Proxy) other() *Endpoint {
	if p.router.Current().Endpoint == Source {
		return &p.cfg.Target
	}
	return &p.cfg.Source
}

// each runs do for every session as its owner, at most limit at a time (0: all at
// once). Sessions that end meanwhile are passed over.
func (p *Proxy) each(ctx context.Context, list []*relay, limit int, do func(ctx context.Context, r *relay)) {
	var g errgroup.Group
	if limit > 0 {
		g.SetLimit(limit)
	}
	for _, r := range list {
		g.Go(func() error {
			defer p.recovered(r)
			owned, release, err := r.own(ctx)
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
func (p *Proxy) catalogsOf(ctx context.Context, list []*relay) (map[string]*session.Catalog, error) {
	a := &p.attempt
	for _, r := range list {
		if _, ok := a.catalogs[r.database]; ok {
			continue
		}
		a.asked = time.Now()
		var catalog *session.Catalog
		err := p.besideAmong(ctx, r.database, p.callers(r.database, list), func(ctx context.Context, l *session.Link) (err error) {
			catalog, err = l.ReadCatalog(ctx)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the names of custom settings of database %q: %w", r.database, err)
		}
		if a.catalogs == nil {
			a.catalogs = map[string]*session.Catalog{}
		}
		a.catalogs[r.database] = catalog
	}
	return a.catalogs, nil
}

// open lets clients on at the side that is active.
func (p *Proxy) open() {
	p.holdAll(false)
	p.gate.Open(p.attempt.generation)
	p.attempt.paused = false
	p.log.Info().Int64(obs.KeyEpoch, p.attempt.epoch).Str(obs.KeyEndpoint, p.router.Current().Endpoint).Msg("gate opened")
}
