package proxy

import (
	"context"
	"fmt"
	"slices"

	"crossfade/proxy/session"
	"crossfade/proxy/typemap"
	"crossfade/proxy/wire"
)

// TypeStore keeps the numbers of types that clients know, which are the source's,
// beyond the life of the proxy and of the source. database is the client's name for
// it. Its methods are called concurrently.
type TypeStore interface {
	LoadTypes(ctx context.Context, database string) ([]typemap.Type, error)
	KeepTypes(ctx context.Context, database string, types []typemap.Type) error
}

// memoryTypes is the TypeStore of a proxy that has no other: it keeps nothing.
type memoryTypes struct{}

func (memoryTypes) LoadTypes(context.Context, string) ([]typemap.Type, error) { return nil, nil }
func (memoryTypes) KeepTypes(context.Context, string, []typemap.Type) error   { return nil }

// learnTypes reads the numbers of types on both sides for each session's database, and
// for the one that the configuration names, once in an attempt, before anything is
// staged on the target. Called with the verbs' turn.
func (p *Proxy) learnTypes(ctx context.Context, list []*relay) error {
	a := &p.attempt
	if p.router.Current().Endpoint != Source {
		return nil // clients keep the numbers that they know
	}
	databases := []string{p.cfg.Database}
	for _, r := range list {
		databases = append(databases, r.database)
	}
	for _, database := range databases {
		callers := slices.DeleteFunc(p.callers(database, list), func(who caller) bool {
			_, err := p.cfg.Target.account(who.user, who.proof)
			return err != nil // it cannot ask there; staging says that it cannot move
		})
		if a.types[database] || len(callers) == 0 {
			continue
		}
		var here []typemap.Type
		err := p.askAmong(ctx, &p.cfg.Source, database, callers, func(ctx context.Context, l *session.Link) (err error) {
			here, err = l.Types(ctx)
			return err
		})
		if err == nil {
			err = p.cfg.Types.KeepTypes(ctx, database, here)
		}
		if err == nil {
			_, err = p.matchTypes(ctx, &p.cfg.Target, database, callers, here)
		}
		if err != nil {
			return fmt.Errorf("compare the types of database %q: %w", database, err)
		}
		if a.types == nil {
			a.types = map[string]bool{}
		}
		a.types[database] = true
	}
	return nil
}

// matchTypes reads the types at the endpoint and remembers how they translate.
func (p *Proxy) matchTypes(ctx context.Context, at *Endpoint, database string, callers []caller, client []typemap.Type) (*typemap.Map, error) {
	var there []typemap.Type
	err := p.askAmong(ctx, at, database, callers, func(ctx context.Context, l *session.Link) (err error) {
		there, err = l.Types(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	m := typemap.New(client, there)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.types[database] = m
	return m, nil
}

// typesAt returns how the numbers of types translate between clients of the database
// and servers of the endpoint: nil where they are the same.
func (p *Proxy) typesAt(ctx context.Context, at *Endpoint, who caller) (*typemap.Map, error) {
	if at.Name == Source {
		return nil, nil
	}
	p.mu.Lock()
	m, known := p.mu.types[who.database]
	p.mu.Unlock()
	if known {
		return m, nil
	}
	client, err := p.cfg.Types.LoadTypes(ctx, who.database)
	if err == nil && len(client) > 0 {
		m, err = p.matchTypes(ctx, at, who.database, p.callersWith(who), client)
	}
	if err != nil {
		return nil, fmt.Errorf("compare the types of database %q: %w", who.database, err)
	}
	return m, nil
}

// known returns a Parse in the numbers of the server that the session is served by.
func (s *server) known(p *wire.Parse) *wire.Parse {
	if p == nil || s.typeMap == nil {
		return p
	}
	q := *p
	q.OIDs = make([]uint32, len(p.OIDs))
	for i, oid := range p.OIDs {
		q.OIDs[i] = s.typeMap.ToServer(oid)
	}
	return &q
}

// translated makes the server translate numbers of types from now on, if its side has
// others than the client knows.
func (s *server) translated(m *typemap.Map, have []typemap.Statement) {
	if m != nil {
		s.typeMap, s.types = m, m.NewSession(have)
	}
}
