package proxy

import (
	"context"
	"fmt"

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
		a.epoch, a.names = epoch, nil
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

// namesOf returns the custom settings that each session's database names, asking
// each database once in an attempt. Called with the verbs' turn.
func (p *Proxy) namesOf(ctx context.Context, list []*relay) (map[string][]string, error) {
	a := &p.attempt
	for _, r := range list {
		if _, ok := a.names[r.database]; ok {
			continue
		}
		names, err := p.askNames(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("read the names of custom settings of database %q: %w", r.database, err)
		}
		if a.names == nil {
			a.names = map[string][]string{}
		}
		a.names[r.database] = names
	}
	return a.names, nil
}

// askNames reads the names from the catalog of the active side, over a connection of
// its own with the credentials of a client, unless somebody else knows them.
func (p *Proxy) askNames(ctx context.Context, r *relay) (names []string, err error) {
	if p.cfg.CustomNames != nil {
		return p.cfg.CustomNames(ctx, r.user, r.database)
	}
	err = p.beside(ctx, r, func(ctx context.Context, l *session.Link) error {
		names, err = l.CatalogNames(ctx)
		return err
	})
	return names, err
}

// beside runs do on a connection of its own to the active side, with the credentials
// of a client.
func (p *Proxy) beside(ctx context.Context, r *relay, do func(context.Context, *session.Link) error) error {
	at, err := p.cfg.endpoint(p.router.Current().Endpoint)
	if err != nil {
		return err
	}
	as, err := at.account(r.user, r.proof)
	if err != nil {
		return err
	}
	conn, err := p.dial(ctx, at, as, at.database(r.database), nil)
	if err != nil {
		return err
	}
	defer terminate(conn)
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	return do(ctx, session.NewLink(conn.Conn, conn.Leftover(), conn.Params))
}

// open lets clients on at the side that is active.
func (p *Proxy) open() {
	p.holdAll(false)
	p.gate.Open(p.attempt.generation)
	p.attempt.paused = false
	p.log.Info().Int64(obs.KeyEpoch, p.attempt.epoch).Str(obs.KeyEndpoint, p.router.Current().Endpoint).Msg("gate opened")
}
