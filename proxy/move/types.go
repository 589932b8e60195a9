package move

import (
	"context"
	"fmt"
	"slices"

	"crossfade/proxy/ask"
	"crossfade/proxy/session"
	"crossfade/proxy/side"
	"crossfade/proxy/state"
	"crossfade/proxy/typemap"
)

// learnTypes reads the numbers of types on both sides for each session's database, and
// for the one that the configuration names, once in an attempt, before anything is
// staged on the target. Called with the verbs' turn.
func (p *Mover) learnTypes(ctx context.Context, list []*session.Session) error {
	a := &p.attempt
	if p.Sides.Router.Current().Endpoint != side.Source {
		return nil // clients keep the numbers that they know
	}
	databases := []string{p.Sides.Database}
	for _, r := range list {
		databases = append(databases, r.Database)
	}
	for _, database := range databases {
		callers := slices.DeleteFunc(p.Sides.Callers(database, session.CallersOf(list)), func(who side.Caller) bool {
			_, err := p.Sides.Target.Account(who.User, who.Proof)
			return err != nil // it cannot ask there; staging says that it cannot move
		})
		if a.types[database] || len(callers) == 0 {
			continue
		}
		var here []typemap.Type
		err := p.Sides.AskAmong(ctx, &p.Sides.Source, database, callers, func(ctx context.Context, l *state.Link) (err error) {
			here, err = ask.Types(ctx, l)
			return err
		})
		if err == nil {
			err = p.Sides.Types.KeepTypes(ctx, database, here)
		}
		if err == nil {
			_, err = p.Sides.MatchTypes(ctx, &p.Sides.Target, database, callers, here)
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
