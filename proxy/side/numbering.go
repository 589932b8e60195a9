package side

import (
	"context"
	"fmt"

	"crossfade/proxy/ask"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
)

// TypeStore keeps the numbers of types that clients know, which are the source's,
// beyond the life of the proxy and of the source. database is the client's name for
// it. Its methods are called concurrently.
type TypeStore interface {
	LoadTypes(ctx context.Context, database string) ([]typemap.Type, error)
	KeepTypes(ctx context.Context, database string, types []typemap.Type) error
}

// discardTypes is the TypeStore of a proxy that has no other: it keeps nothing.
type discardTypes struct{}

func (discardTypes) LoadTypes(context.Context, string) ([]typemap.Type, error) { return nil, nil }
func (discardTypes) KeepTypes(context.Context, string, []typemap.Type) error   { return nil }

// MatchTypes reads the types at the endpoint and remembers how they translate.
func (s *Sides) MatchTypes(ctx context.Context, at *Endpoint, database string, callers []Caller, client []typemap.Type) (*typemap.Map, error) {
	var there []typemap.Type
	err := s.AskAmong(ctx, at, database, callers, func(ctx context.Context, l *state.Link) (err error) {
		there, err = ask.Types(ctx, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	m := typemap.New(client, there)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.types[database] = m
	return m, nil
}

// TypesAt returns how the numbers of types translate between clients of the database
// and servers of the endpoint: nil where they are the same.
func (s *Sides) TypesAt(ctx context.Context, at *Endpoint, who Caller) (*typemap.Map, error) {
	if at.Name == Source {
		return nil, nil
	}
	s.mu.Lock()
	m, known := s.mu.types[who.Database]
	s.mu.Unlock()
	if known {
		return m, nil
	}
	client, err := s.Types.LoadTypes(ctx, who.Database)
	if err == nil && len(client) > 0 {
		m, err = s.MatchTypes(ctx, at, who.Database, s.CallersWith(who), client)
	}
	if err != nil {
		return nil, fmt.Errorf("compare the types of database %q: %w", who.Database, err)
	}
	return m, nil
}
